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
	Process *os.Process
	// PidFD stands for the process whatever becomes of its pid.
	PidFD *os.File
	// Terminal is the controlling end of its pty, nil without one.
	Terminal *os.File
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

// instruct puts the new process into its cgroup, tells it what to do and waits
// until it has become the image's program.
func (l *Launch) instruct(c *Child, pipes *pipes) error {
	if err := l.Group.Add(c.Process.Pid); err != nil {
		return err
	}
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
	var thread []func() error // changes of the thread that clones
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
	spawn := func() (*Child, error) {
		for _, change := range thread {
			if err := change(); err != nil {
				return nil, err
			}
		}
		return startSelf(proto.GuestName, l.Streams, pipes, nil, sys)
	}
	if len(thread) == 0 {
		return spawn()
	}
	type result struct {
		c   *Child
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		c, err := spawn()
		done <- result{c, err}
	}()
	r := <-done
	return r.c, r.err
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

// startSelf starts this program again in one of its roles.
func startSelf(role string, s Streams, p *pipes, extra []*os.File, sys *syscall.SysProcAttr) (*Child, error) {
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
	files := []*os.File{s.In, s.Out, s.Err}
	for i, f := range files {
		if f == nil {
			files[i] = null
		}
	}
	files = append(append(files, p.configR, p.reportR), extra...)
	pidfd := -1
	sys.PidFD = &pidfd
	process, err := os.StartProcess(selfexe.Path(self), []string{role}, &os.ProcAttr{
		Dir: "/", Env: []string{"GOMAXPROCS=2"}, Files: files, Sys: sys,
	})
	if err != nil {
		return nil, proto.Fail("start", role, err)
	}
	p.closeTheirs()
	c := &Child{Process: process}
	if pidfd >= 0 {
		c.PidFD = os.NewFile(uintptr(pidfd), "pidfd")
	}
	return c, nil
}

// Abandon ends a child that must not run, and waits for it.
func (c *Child) Abandon() {
	_ = c.Process.Kill()
	_, _ = c.Process.Wait()
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
			if i == 0 && r.Stage == "pty" && c.Terminal == nil {
				c.Terminal = os.NewFile(uintptr(fd), "pty")
				continue
			}
			unix.Close(fd)
		}
		if r.Stage == "failed" && r.Failure != nil {
			return r, r.Failure
		}
		last = r
	}
}
