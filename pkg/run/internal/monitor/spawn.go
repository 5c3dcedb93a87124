// Package monitor is the outside of a container: it starts the guest, tells it
// what to do, and learns what became of it. It runs in the caller's process or
// in one of its own that outlives the caller.
package monitor

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"peel/internal/userns"
	"peel/pkg/run/internal/cgroup"
	"peel/pkg/run/internal/proto"
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
	// leave tells the joiner to hold the terminal from now on; nil: there is
	// nobody to tell.
	leave *os.File
}

// CanLeave says whether the program's terminal outlives this process after Leave.
func (c *Child) CanLeave() bool { return c.leave != nil }

// Leave hands the program's terminal, if it has one, to somebody who stays.
func (c *Child) Leave() error {
	if c.leave == nil {
		return nil
	}
	_, err := c.leave.Write([]byte{1})
	return err
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
	// Tree is the mount that goes with Guest.Root.Tree. It stays the caller's.
	Tree *os.File
	// Filter compiles the seccomp profile: it runs while the guest starts up.
	Filter func() (*proto.Filter, error)
	// Created is called when the container is made, and its program not begun, if
	// there are hooks for that.
	Created func(pid int) error
	// Ready is called before the image's program begins, when the process has its
	// own root.
	Ready func(pid int) error
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
	ready := func(proto.Report) error {
		if err := l.Ready(c.Pid); err != nil {
			return err
		}
		return l.Group.LimitPids()
	}
	r, err := pipes.follow(c, map[string]func(proto.Report) error{
		"created": func(proto.Report) error { return l.Created(c.Pid) },
		"exec":    ready,
		"free":    func(proto.Report) error { return l.Group.FreePids() },
	})
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
	c := cradle{group: l.Group, thread: []func() error{l.Group.EnterThread}}
	for _, ns := range linux.Namespaces {
		switch {
		case ns.Type == specs.TimeNamespace && ns.Path == "":
			c.thread = append(c.thread, func() error { return newTimeNS(linux.TimeOffsets) })
			c.timeNS = true
		case ns.Type == specs.PIDNamespace && ns.Path != "":
			c.thread = append(c.thread, func() error { return joinPidNS(ns.Path) })
		case ns.Path == "":
			c.flags |= cloneFlags[ns.Type]
		}
	}
	if c.flags&unix.CLONE_NEWUSER != 0 {
		c.maps = &userns.Maps{UIDs: linux.UIDMappings, GIDs: linux.GIDMappings}
	}
	var extra []*os.File
	if l.Tree != nil {
		extra = append(extra, l.Tree)
	}
	mapped, err := mappedMounts(l.Guest.Spec)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, f := range mapped {
			f.Close()
		}
	}()
	l.Guest.Mapped = map[int]int{}
	for i, m := range l.Guest.Spec.Mounts {
		if Mapped(m) {
			l.Guest.Mapped[i] = proto.FirstFD + len(extra)
			extra, mapped = append(extra, mapped[0]), append(mapped[1:], mapped[0])
		}
	}
	return c.start(proto.GuestName, l.Streams, pipes, extra)
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
	// Threads have this file too, but only under their number in /proc itself.
	file := fmt.Sprintf("/proc/%d/timens_offsets", unix.Gettid())
	for clock, o := range offsets {
		line := fmt.Sprintf("%s %d %d\n", clock, o.Secs, o.Nanosecs)
		if err := os.WriteFile(file, []byte(line), 0); err != nil {
			return proto.Fail("time namespace", clock, errors.Unwrap(err))
		}
	}
	return nil
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
	if c.leave != nil {
		c.leave.Close()
	}
}
