// Package proto is what the programs of a container say to each other: the one
// package that the caller's side, the guest and the joiner share.
//
// A child is told everything by one JSON document on an inherited pipe, and
// answers with Reports, one packet each, on an inherited socket. The socket is
// closed by its execve, so its end after a Report "exec" means that the
// image's program runs.
package proto

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The first word of the command line of a child, and the descriptors it finds.
const (
	GuestName   = "peel-guest"
	JoinName    = "peel-join"
	MonitorName = "peel-monitor"
	RemoveName  = "peel-remove"
	InitName    = "peel-init" // followed by the program, and its arguments from its name on
	ExportName  = "peel-export"
	OverlayName = "peel-overlay"

	ConfigFD = 3
	ReportFD = 4
	FirstFD  = 5 // and up: descriptors that the role is handed
)

// maxConfig bounds what a child reads; a config.json is kilobytes.
const maxConfig = 64 << 20

// Root is where a root file system comes from: a directory, or layers under an
// overlay.
type Root struct {
	Dir string `json:"dir,omitempty"`
	// Lower are read-only trees, the topmost first.
	Lower []string `json:"lower,omitempty"`
	Upper string   `json:"upper,omitempty"`
	Work  string   `json:"work,omitempty"`
	// Tree: descriptor FirstFD is a mount that is attached nowhere, for Lower[0],
	// an empty directory.
	Tree bool `json:"tree,omitempty"`
	// Volatile: what is written need not survive a power failure.
	Volatile bool `json:"volatile,omitempty"`
}

// Guest is all that the guest is told.
type Guest struct {
	ID   string `json:"id"`
	Root Root   `json:"root"`
	Spec *Spec  `json:"spec"`
	// User is docker's user[:group], looked up in the root file system; empty:
	// Spec.Process.User counts.
	User string `json:"user,omitempty"`
	// OwnUserNS: the container has a user namespace of its own, where no device
	// can be made.
	OwnUserNS bool `json:"ownUserNS,omitempty"`
	// Fill are the destinations of bind mounts that get, if they are empty, what the
	// root file system has there.
	Fill []string `json:"fill,omitempty"`
	// Init: the first process is package pid1, and the program its child.
	Init bool `json:"init,omitempty"`
	// Mapped are the descriptors of those of Spec.Mounts, by their number, that are
	// there already, with owners mapped.
	Mapped map[int]int `json:"mapped,omitempty"`
	// Bundle is what hooks are told of where the config is.
	Bundle string `json:"bundle,omitempty"`
	// Cgroups are the container's directories by controller, as the host sees
	// them; "" is the unified one.
	Cgroups map[string]string `json:"cgroups,omitempty"`
	Filter  *Filter           `json:"filter,omitempty"`
}

// Join is all that the joiner is told. Descriptor FirstFD is a pidfd of the
// container's first process. With a terminal the next one is a pipe: if anything
// comes, the joiner is to hold the terminal when the caller is gone; at its end the
// terminal is to be hung up.
type Join struct {
	Process *specs.Process `json:"process"`
	// Namespaces are the CLONE_NEW* kinds in which the container differs.
	Namespaces int `json:"namespaces"`
	// Late: the program enters the cgroup that limits processes when it is there.
	Late   bool    `json:"late,omitempty"`
	Filter *Filter `json:"filter,omitempty"`
}

// Filter is a compiled seccomp program: 8 bytes an instruction as the kernel
// lays them out.
type Filter struct {
	Flags uint   `json:"flags,omitempty"`
	Code  []byte `json:"code"`
}

// Report is what a child says.
type Report struct {
	// Stage "created" waits for the hooks of the runtime; "pty" carries a terminal's controlling end as a descriptor; "exec"
	// is the last word before execve, after which the guest waits in Ask; "free" asks
	// for limits to be lifted; "born" waits for Pid, who is to be the program, to be
	// limited; "forked" carries Pid and a pidfd of the
	// program; "warning" Text, which "done" ends; "failed" Failure.
	Stage   string   `json:"stage"`
	Pid     int      `json:"pid,omitempty"`
	Text    string   `json:"text,omitempty"`
	Failure *Failure `json:"failure,omitempty"`
}

// Failure is an error on its way between processes. It keeps its errno for
// errors.Is.
type Failure struct {
	Stage string        `json:"stage"`          // what was being done: "mount", "capabilities", "exec"
	Path  string        `json:"path,omitempty"` // to what
	Errno syscall.Errno `json:"errno,omitempty"`
	Text  string        `json:"text,omitempty"` // more than the errno says
}

func (f *Failure) Error() string {
	s := f.Stage
	if f.Path != "" {
		s += " " + f.Path
	}
	switch {
	case f.Text != "":
		return s + ": " + f.Text
	case f.Errno != 0:
		return s + ": " + f.Errno.Error()
	}
	return s
}

func (f *Failure) Unwrap() error {
	if f.Errno == 0 {
		return nil
	}
	return f.Errno
}

// Fail makes a Failure of an error: nil stays nil, a Failure stays itself.
func Fail(stage, path string, err error) error {
	if err == nil {
		return nil
	}
	if f := (*Failure)(nil); errors.As(err, &f) {
		return f
	}
	f := &Failure{Stage: stage, Path: path}
	if errors.As(err, &f.Errno) && err == error(f.Errno) {
		return f
	}
	f.Text = err.Error()
	return f
}

// ReadConfig reads the document a child was started with and closes the pipe.
func ReadConfig(v any) error {
	f := os.NewFile(ConfigFD, "config")
	if f == nil {
		return errors.New("no config pipe")
	}
	defer f.Close()
	unix.CloseOnExec(ConfigFD)
	b, err := io.ReadAll(io.LimitReader(f, maxConfig))
	if err != nil {
		return err
	}
	if len(b) == 0 {
		return io.ErrUnexpectedEOF // the parent is gone
	}
	return json.Unmarshal(b, v)
}

// CloseInherited closes the descriptors from first on that were open before this
// program began: those that the caller's own caller had left open. A child that
// stays would keep his lock held and his pipe from ending. What this program has
// opened itself is close-on-exec, and so is told apart.
func CloseInherited(first int) error {
	d, err := os.Open("/proc/self/fd")
	if err != nil {
		return err
	}
	names, err := d.Readdirnames(-1)
	if err := errors.Join(err, d.Close()); err != nil {
		return err
	}
	for _, name := range names {
		fd, err := strconv.Atoi(name)
		if err != nil || fd < first {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.Close(fd)
		}
	}
	return nil
}

// Send writes a report, with descriptors, to the report socket.
func Send(fd int, r Report, fds ...int) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	return unix.Sendmsg(fd, b, rights, nil, unix.MSG_NOSIGNAL)
}

// Ask reports a stage and waits for the parent's Proceed.
func Ask(fd int, stage string) error { return AskOf(fd, Report{Stage: stage}) }

// AskOf is Ask about more than a stage.
func AskOf(fd int, r Report) error {
	if err := Send(fd, r); err != nil {
		return err
	}
	return await(fd)
}

// Proceed lets a child go on that waits in Ask.
func Proceed(fd int) error { return unix.Sendmsg(fd, []byte{1}, nil, nil, unix.MSG_NOSIGNAL) }

// await is one system call of which the Go
// runtime does not know: it would want another thread meanwhile, which there may
// be no room for.
func await(fd int) error {
	var b [1]byte
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), 1)
		switch {
		case errno == unix.EINTR:
			continue
		case errno != 0:
			return errno
		case n == 0:
			return io.ErrUnexpectedEOF // the parent is gone
		}
		return nil
	}
}

// maxReport is far above any report: a Failure with two long paths.
const maxReport = 64 << 10

// Receive reads the next report. The descriptors are the caller's. At the end it
// returns io.EOF.
func Receive(fd int) (Report, []int, error) {
	buf, oob := make([]byte, maxReport), make([]byte, unix.CmsgSpace(4*4))
	var n, oobn int
	var err error
	for {
		n, oobn, _, _, err = unix.Recvmsg(fd, buf, oob, unix.MSG_CMSG_CLOEXEC)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return Report{}, nil, fmt.Errorf("report: %w", err)
	}
	if n == 0 {
		return Report{}, nil, io.EOF
	}
	var fds []int
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return Report{}, nil, fmt.Errorf("report: %w", err)
	}
	for _, m := range msgs {
		got, err := unix.ParseUnixRights(&m)
		if err != nil {
			return Report{}, nil, fmt.Errorf("report: %w", err)
		}
		fds = append(fds, got...)
	}
	var r Report
	if err := json.Unmarshal(buf[:n], &r); err != nil {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return Report{}, nil, fmt.Errorf("report: %w", err)
	}
	return r, fds, nil
}
