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
		pid, pidfd int
		err        error
	}
	done := make(chan result)
	go func() {
		// Never unlocked: the thread is spent when the goroutine ends.
		runtime.LockOSThread()
		pid, pidfd, err := join(&j)
		done <- result{pid, pidfd, err}
	}()
	r := <-done
	if r.err != nil {
		die(r.err)
	}
	if err := proto.Send(proto.ReportFD, proto.Report{Stage: "forked", Pid: r.pid}, r.pidfd); err != nil {
		os.Exit(125)
	}
	unix.Close(proto.ReportFD)
	unix.Close(r.pidfd)
	os.Exit(wait(r.pid))
}

// wait waits for the program and returns its exit code. It is this process that
// waits, and not the one that asked for the program: a dead program that nobody
// waits for keeps its whole pid namespace from ending, and a person may have
// stopped that process with ^Z.
func wait(pid int) int {
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &ws, 0, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 125
		case ws.Signaled():
			return 128 + int(ws.Signal())
		}
		return ws.ExitStatus()
	}
}

func join(j *proto.Join) (pid, pidfd int, err error) {
	unix.CloseOnExec(proto.FirstFD)
	proc, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, -1, proto.Fail("open", "/proc", err)
	}
	p := &process{spec: j.Process, proc: proc, filter: program(j.Filter)}
	u := j.Process.User
	p.user = users.User{UID: u.UID, GID: u.GID, Groups: u.AdditionalGids}
	// A mount namespace is not entered by a thread that shares its working
	// directory with others.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return 0, -1, proto.Fail("unshare", "", err)
	}
	if err := unix.Setns(proto.FirstFD, j.Namespaces); err != nil {
		return 0, -1, proto.Fail("join the container", "", err)
	}
	if j.Process.Terminal {
		if err := p.openTerminal(); err != nil {
			return 0, -1, err
		}
	}
	if err := p.prepare(); err != nil {
		return 0, -1, err
	}
	program, err := p.ready()
	if err != nil {
		return 0, -1, err
	}
	if err := p.confine(); err != nil {
		return 0, -1, err
	}
	attr := &syscall.ProcAttr{
		Files: []uintptr{0, 1, 2},
		Env:   p.env(),
		Sys: &syscall.SysProcAttr{
			Setsid:  true,
			Setctty: p.pty.terminal != 0,
			PidFD:   &pidfd,
		},
	}
	pid, err = syscall.ForkExec(program, j.Process.Args, attr)
	if err != nil {
		return 0, -1, p.failedExec(program, err)
	}
	return pid, pidfd, nil
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
