// Package monitor is the outside of a container: it starts the guest, tells it
// what to do, and learns what became of it. It runs in the caller's process or
// in one of its own that outlives the caller.
package monitor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"peel/pkg/run/internal/cgroup"
	"peel/pkg/run/internal/proto"
	"peel/pkg/run/internal/selfexe"
)

// Streams are what a program gets as its descriptors 0, 1 and 2. A nil one is
// /dev/null. They stay the caller's.
type Streams struct{ In, Out, Err *os.File }

// Child is a program that was started in a container.
type Child struct {
	Pid int
	// PidFD stands for the program whatever becomes of its pid.
	PidFD *os.File
	// waitPid is our own child, whose end is the program's: itself, or the
	// joiner that waits for it.
	waitPid int
	// Terminal is the controlling end of its pty, nil without one.
	Terminal *os.File
}

// Wait waits for the child's end. It is to be called once.
func (c *Child) Wait() (unix.WaitStatus, error) {
	var ws unix.WaitStatus
	for {
		if _, err := unix.Wait4(c.waitPid, &ws, 0, nil); err != unix.EINTR {
			return ws, os.NewSyscallError("wait4", err)
		}
	}
}

// Signal sends a signal. A child that has ended is os.ErrProcessDone.
func (c *Child) Signal(sig syscall.Signal) error {
	err := unix.PidfdSendSignal(int(c.PidFD.Fd()), sig, nil, 0)
	if err == unix.ESRCH {
		return os.ErrProcessDone
	}
	return os.NewSyscallError("pidfd_send_signal", err)
}

// Launch is a container about to start.
type Launch struct {
	Guest   proto.Guest
	Group   *cgroup.Group
	Streams Streams
	// Filter compiles the seccomp profile: it runs while the guest starts up.
	Filter func() (*proto.Filter, error)
}

// Start starts the container. When it returns nil the image's program runs; an
// error is a *proto.Failure where the guest said why. Nothing is left behind
// after an error but the cgroup, which is the caller's.
func (l *Launch) Start() (*Child, error) {
	if err := l.Group.Create(); err != nil {
		return nil, err
	}
	pipes, err := newPipes()
	if err != nil {
		return nil, err
	}
	defer pipes.Close()
	c, err := l.clone(pipes)
	if err != nil {
		return nil, err
	}
	if err := l.instruct(c, pipes); err != nil {
		c.Abandon()
		return nil, err
	}
	return c, nil
}

// instruct limits the new process, tells it what to do and waits until it has
// become the image's program.
func (l *Launch) instruct(c *Child, pipes *pipes) error {
	if err := l.Group.Limit(); err != nil {
		return err
	}
	l.Guest.Cgroups = l.Group.Paths()
	if l.Filter != nil {
		var err error
		if l.Guest.Filter, err = l.Filter(); err != nil {
			return err
		}
	}
	if err := pipes.send(&l.Guest); err != nil {
		return err
	}
	r, err := pipes.follow(c)
	if err == nil && r.Stage != "exec" {
		err = errors.New("the container's first process ended before its program began")
	}
	return err
}

// cloneFlags maps the kinds that are made at birth.
var cloneFlags = map[specs.LinuxNamespaceType]uintptr{
	specs.MountNamespace:   unix.CLONE_NEWNS,
	specs.PIDNamespace:     unix.CLONE_NEWPID,
	specs.NetworkNamespace: unix.CLONE_NEWNET,
	specs.IPCNamespace:     unix.CLONE_NEWIPC,
	specs.UTSNamespace:     unix.CLONE_NEWUTS,
	specs.UserNamespace:    unix.CLONE_NEWUSER,
}

func (l *Launch) clone(pipes *pipes) (*Child, error) {
	linux := l.Guest.Spec.Linux
	sys := &syscall.SysProcAttr{}
	thread := []func() error{l.Group.EnterThread}
	for _, ns := range linux.Namespaces {
		switch {
		case ns.Type == specs.TimeNamespace && ns.Path == "":
			thread = append(thread, func() error { return newTimeNS(linux.TimeOffsets) })
		case ns.Type == specs.PIDNamespace && ns.Path != "":
			thread = append(thread, func() error { return joinPidNS(ns.Path) })
		case ns.Path == "":
			sys.Cloneflags |= cloneFlags[ns.Type]
		}
	}
	if sys.Cloneflags&unix.CLONE_NEWUSER != 0 {
		sys.UidMappings, sys.GidMappings = mappings(linux.UIDMappings), mappings(linux.GIDMappings)
		sys.GidMappingsEnableSetgroups = os.Geteuid() == 0
		// execve keeps capabilities only for root of the new namespace.
		sys.Credential = &syscall.Credential{NoSetGroups: !sys.GidMappingsEnableSetgroups}
	}
	return startSelf(proto.GuestName, l.Group, thread, l.Streams, pipes, nil, sys)
}

func mappings(list []specs.LinuxIDMapping) []syscall.SysProcIDMap {
	var out []syscall.SysProcIDMap
	for _, m := range list {
		out = append(out, syscall.SysProcIDMap{ContainerID: int(m.ContainerID), HostID: int(m.HostID), Size: int(m.Size)})
	}
	return out
}

// joinPidNS makes the children of this thread be born in another pid namespace.
func joinPidNS(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return proto.Fail("join namespace", path, err)
	}
	defer unix.Close(fd)
	return proto.Fail("join namespace", path, unix.Setns(fd, unix.CLONE_NEWPID))
}

// newTimeNS makes the children of this thread be born in a new time namespace
// whose clocks are shifted: the shift can only be set before the first is.
func newTimeNS(offsets map[string]specs.LinuxTimeOffset) error {
	if err := unix.Unshare(unix.CLONE_NEWTIME); err != nil {
		return proto.Fail("time namespace", "", err)
	}
	for clock, o := range offsets {
		line := fmt.Sprintf("%s %d %d\n", clock, o.Secs, o.Nanosecs)
		if err := os.WriteFile("/proc/thread-self/timens_offsets", []byte(line), 0); err != nil {
			return proto.Fail("time namespace", clock, errors.Unwrap(err))
		}
	}
	return nil
}

// startSelf starts this program again in one of its roles, in the cgroups of
// group, from a thread that the functions in thread have changed.
func startSelf(role string, group *cgroup.Group, thread []func() error, s Streams, p *pipes, extra []*os.File, sys *syscall.SysProcAttr) (*Child, error) {
	self, err := selfexe.Open()
	if err != nil {
		return nil, err
	}
	defer self.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	files := append([]*os.File{s.In, s.Out, s.Err, p.configR, p.reportR}, extra...)
	fds := make([]uintptr, len(files))
	for i, f := range files {
		if f == nil {
			f = null
		}
		fds[i] = f.Fd()
	}
	birth, err := group.BirthDir()
	if err != nil {
		return nil, err
	}
	if birth != nil {
		defer birth.Close()
		sys.UseCgroupFD, sys.CgroupFD = true, int(birth.Fd())
	}
	pidfd := -1
	sys.PidFD = &pidfd
	attr := &syscall.ProcAttr{Dir: "/", Env: []string{"GOMAXPROCS=2"}, Files: fds, Sys: sys}

	var pid int
	err = onSpentThread(func() error {
		for _, change := range thread {
			if err := change(); err != nil {
				return err
			}
		}
		var err error
		pid, _, err = syscall.StartProcess(selfexe.Path(self), []string{role}, attr)
		return proto.Fail("start", role, err)
	})
	runtime.KeepAlive(files)
	if err != nil {
		return nil, err
	}
	p.closeTheirs()
	if pidfd < 0 {
		if pidfd, err = unix.PidfdOpen(pid, 0); err != nil {
			return nil, fmt.Errorf("pidfd_open: %w", err)
		}
	}
	return &Child{Pid: pid, waitPid: pid, PidFD: os.NewFile(uintptr(pidfd), "pidfd")}, nil
}

// onSpentThread runs f on a thread that ends with it, so that what f changes of
// the thread concerns nobody else. The main thread is the one that the Go runtime
// cannot end: it would stay in the container's cgroups for good.
func onSpentThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // not unlocked, and so the thread ends
		if unix.Gettid() == unix.Getpid() {
			done <- onSpentThread(f) // on another, as this one is taken
			runtime.UnlockOSThread()
			return
		}
		done <- f()
	}()
	return <-done
}

// Abandon ends a child that must not run, and waits for it.
func (c *Child) Abandon() {
	_ = c.Signal(unix.SIGKILL)
	_, _ = c.Wait()
	c.Close()
}

// Close lets go of what the Child holds. The process is not touched.
func (c *Child) Close() {
	if c.Terminal != nil {
		c.Terminal.Close()
	}
	if c.PidFD != nil {
		c.PidFD.Close()
	}
}

// pipes are the two ways between parent and child: see package proto.
type pipes struct{ configR, configW, reportR, reportW *os.File }

func newPipes() (*pipes, error) {
	p := &pipes{}
	var err error
	if p.configR, p.configW, err = os.Pipe(); err != nil {
		return nil, err
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		p.Close()
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	// Plain blocking descriptors: the child's end goes to a child, ours is read
	// by recvmsg alone.
	p.reportW, p.reportR = os.NewFile(uintptr(fds[0]), "report"), os.NewFile(uintptr(fds[1]), "report")
	return p, nil
}

func (p *pipes) closeTheirs() {
	p.configR.Close()
	p.reportR.Close()
}

// Close closes all ends that are still open.
func (p *pipes) Close() {
	for _, f := range []*os.File{p.configR, p.configW, p.reportR, p.reportW} {
		if f != nil {
			f.Close()
		}
	}
}

// send writes the config and closes the pipe. A child that is gone shows in
// follow, with a better reason than EPIPE.
func (p *pipes) send(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = p.configW.Write(b)
	if cerr := p.configW.Close(); err == nil {
		err = cerr
	}
	if errors.Is(err, unix.EPIPE) {
		err = nil
	}
	return err
}

// follow reads reports until the child's end is closed, and returns the last.
func (p *pipes) follow(c *Child) (proto.Report, error) {
	var last proto.Report
	for {
		r, fds, err := proto.Receive(int(p.reportW.Fd()))
		if err == io.EOF {
			return last, nil
		}
		if err != nil {
			return last, err
		}
		for i, fd := range fds {
			switch {
			case i == 0 && r.Stage == "pty" && c.Terminal == nil:
				c.Terminal = os.NewFile(uintptr(fd), "pty")
			case i == 0 && r.Stage == "forked":
				c.PidFD.Close()
				c.Pid, c.PidFD = r.Pid, os.NewFile(uintptr(fd), "pidfd")
			default:
				unix.Close(fd)
			}
		}
		if r.Stage == "failed" && r.Failure != nil {
			return r, r.Failure
		}
		last = r
	}
}
