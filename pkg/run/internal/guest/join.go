package guest

import (
	"io"
	"os"

	"golang.org/x/sys/unix"

	"peel/internal/rawfork"
	"peel/internal/users"
	"peel/pkg/run/internal/proto"
)

// JoinMain starts one more program in a running container. It does not return.
//
// This process itself never becomes visible there. One of its threads enters
// the container's namespaces, takes the identity and the filter, and forks the
// program straight out of that state: see join.
func JoinMain() {
	hide()
	var j proto.Join
	if err := proto.ReadConfig(&j); err != nil {
		die(proto.Fail("config", "", err))
	}
	handed := proto.FirstFD + 1
	if j.Process.Terminal {
		handed++
	}
	if err := proto.CloseInherited(handed); err != nil {
		die(proto.Fail("close descriptors", "", err))
	}
	if err := heedSignals(); err != nil {
		die(err)
	}
	var p *process
	var child *rawfork.Child
	var pid int
	err := rawfork.OnSpentThread(func() (err error) {
		p, child, pid, err = join(&j)
		return err
	})
	if err != nil {
		die(err)
	}
	pidfd, err := child.Finish(pid)
	if err != nil {
		die(p.failedExec(p.program, err))
	}
	child.Close()
	if err := proto.Send(proto.ReportFD, proto.Report{Stage: "forked", Pid: pid}, int(pidfd.Fd())); err != nil {
		os.Exit(125)
	}
	unix.Close(proto.ReportFD)
	pidfd.Close()
	if j.Process.Terminal {
		go holdTerminal(p.pty.control)
	}
	os.Exit(wait(pid))
}

// leavePipe is where the caller says that it leaves the program to itself.
const leavePipe = proto.FirstFD + 1

// holdTerminal keeps the controlling end of the program's terminal while the caller
// is there. When the caller has said that it leaves, what is printed is read from
// then on, and dropped; a caller that just goes takes the terminal with it.
func holdTerminal(control int) {
	terminal := os.NewFile(uintptr(control), "pty")
	defer terminal.Close()
	leave := os.NewFile(leavePipe, "leave")
	if n, _ := leave.Read(make([]byte, 1)); n == 1 {
		_, _ = io.Copy(io.Discard, terminal)
	}
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

// join forks the program out of the container. What the thread that calls it has
// become, and the memory and the descriptors that the child has until its execve,
// are no more than the container may have: one with CAP_SYS_PTRACE can look into
// the child and take it over.
func join(j *proto.Join) (p *process, child *rawfork.Child, pid int, err error) {
	unix.CloseOnExec(proto.FirstFD)
	if j.Process.Terminal {
		unix.CloseOnExec(leavePipe)
	}
	proc, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, 0, proto.Fail("open", "/proc", err)
	}
	p = &process{spec: j.Process, proc: proc, filter: program(j.Filter)}
	u := j.Process.User
	p.user = users.User{UID: u.UID, GID: u.GID, Groups: u.AdditionalGids}
	// A mount namespace is not entered by a thread that shares its working
	// directory with others.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return nil, nil, 0, proto.Fail("unshare", "", err)
	}
	if err := unix.Setns(proto.FirstFD, j.Namespaces); err != nil {
		return nil, nil, 0, proto.Fail("join the container", "", err)
	}
	// One of its own, as the first process has. It has no name: by a name that it
	// guesses another container could have it join a keyring that it made.
	if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil && err != unix.ENOSYS && err != unix.EPERM {
		return nil, nil, 0, proto.Fail("session keyring", "", err)
	}
	if j.Process.Terminal {
		if err := p.openTerminal(); err != nil {
			return nil, nil, 0, err
		}
	}
	if err := p.prepare(); err != nil {
		return nil, nil, 0, err
	}
	// Looked for with the rights of the process, by a thread that then gives up
	// the right to prepare more.
	if err := p.ready(); err != nil {
		return nil, nil, 0, err
	}
	attr := rawfork.Attr{Files: []uintptr{0, 1, 2}, Env: p.env(), Setsid: true, Ctty: p.pty.terminal != 0}
	if j.Late {
		attr.Prepare = func(pid int) error { return proto.AskOf(proto.ReportFD, proto.Report{Stage: "born", Pid: pid}) }
	}
	child, err = rawfork.New(p.program, j.Process.Args, &attr)
	if err != nil {
		return nil, nil, 0, proto.Fail("exec", p.program, err)
	}
	if err := child.Isolate(); err != nil {
		return nil, nil, 0, proto.Fail("exec", p.program, err)
	}
	if err := p.confine(); err != nil {
		return nil, nil, 0, err
	}
	pid, err = child.Fork()
	return p, child, pid, proto.Fail("exec", p.program, err)
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
	p.pty.terminal, p.pty.control = terminal, control
	return proto.Fail("terminal", "", proto.Send(proto.ReportFD, proto.Report{Stage: "pty"}, control))
}
