package guest

import (
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"peel/internal/users"
	"peel/pkg/run/internal/proto"
)

// JoinMain starts one more program in a running container. It does not return.
//
// This process itself never becomes visible there. One of its threads enters
// the container's namespaces, takes the identity and the filter, and forks the
// program straight out of that state: between the host's view and the image's
// program there is no moment in which a hostile process of the container could
// find peel, its memory or its descriptors under /proc.
func JoinMain() {
	hide()
	var j proto.Join
	if err := proto.ReadConfig(&j); err != nil {
		die(proto.Fail("config", "", err))
	}
	type result struct {
		pid int
		err error
	}
	done := make(chan result)
	go func() {
		// Never unlocked: the thread is spent when the goroutine ends.
		runtime.LockOSThread()
		pid, err := join(&j)
		done <- result{pid, err}
	}()
	r := <-done
	if r.err != nil {
		die(r.err)
	}
	if err := proto.Send(proto.ReportFD, proto.Report{Stage: "forked", Pid: r.pid}); err != nil {
		os.Exit(125)
	}
	os.Exit(0)
}

func join(j *proto.Join) (int, error) {
	unix.CloseOnExec(proto.FirstFD)
	proc, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, proto.Fail("open", "/proc", err)
	}
	p := &process{spec: j.Process, proc: proc, filter: program(j.Filter)}
	u := j.Process.User
	p.user = users.User{UID: u.UID, GID: u.GID, Groups: u.AdditionalGids}
	// A mount namespace is not entered by a thread that shares its working
	// directory with others.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return 0, proto.Fail("unshare", "", err)
	}
	if err := unix.Setns(proto.FirstFD, j.Namespaces); err != nil {
		return 0, proto.Fail("join the container", "", err)
	}
	if j.Process.Terminal {
		if err := p.openTerminal(); err != nil {
			return 0, err
		}
	}
	if err := p.prepare(); err != nil {
		return 0, err
	}
	program, err := p.ready()
	if err != nil {
		return 0, err
	}
	if err := p.confine(); err != nil {
		return 0, err
	}
	attr := &syscall.ProcAttr{
		Files: []uintptr{0, 1, 2},
		Env:   p.env(),
		Sys: &syscall.SysProcAttr{
			// Our parent is the one who waits for the program.
			Cloneflags: unix.CLONE_PARENT,
			Setsid:     true,
			Setctty:    p.pty.terminal != 0,
		},
	}
	pid, err := syscall.ForkExec(program, j.Process.Args, attr)
	if err != nil {
		return 0, p.failedExec(program, err)
	}
	return pid, nil
}

// openTerminal makes a terminal in the container's devpts and hands the
// controlling end to the parent.
func (p *process) openTerminal() error {
	fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return proto.Fail("open", "/", err)
	}
	root := newRootDir(fd)
	defer root.dir.Close()
	control, terminal, err := openPty(root, p.spec.ConsoleSize)
	if err != nil {
		return proto.Fail("terminal", "/dev/pts/ptmx", err)
	}
	p.pty.terminal = terminal
	defer unix.Close(control)
	return proto.Fail("terminal", "", proto.Send(proto.ReportFD, proto.Report{Stage: "pty"}, control))
}
