// Package pid1 is a container's first process where its program wants none of the
// duties of one: it buries whatever ends without a parent, passes signals on to the
// program, and ends as that does.
//
// It is the program's equal in every respect: it has become who the program is,
// with the same capabilities and the same filter, before it was executed, and it
// has no descriptors but the program's three. It is this binary, which the
// container can see as /proc/1/exe: see package selfexe for why that is harmless.
package pid1

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"peel/pkg/run/internal/memory"
)

// Main starts the program with its arguments, of which the first is its name, and
// does not return.
func Main(program string, args []string) {
	// One thread would do. What it takes counts against the container's limits.
	runtime.GOMAXPROCS(1)
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) // where it is not process 1
	closeCgroups()
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	memory.Shrink() // now, so that the program finds no file open here
	pid, err := start(program, args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "peel: exec %s: %v\n", program, err)
		if errors.Is(err, unix.ENOENT) {
			os.Exit(127)
		}
		os.Exit(126)
	}
	go func() {
		for s := range signals {
			if sig := s.(syscall.Signal); passed(sig) {
				_ = unix.Kill(pid, sig) // it is not buried before this process ends
			}
		}
	}()
	os.Exit(wait(pid))
}

// closeCgroups closes what the Go runtime has opened to follow the container's
// share of processors, of which it has been told above that it does not matter.
func closeCgroups() {
	for fd := 3; fd < 16; fd++ {
		var fs unix.Statfs_t
		if err := unix.Fstatfs(fd, &fs); err == nil && (fs.Type == unix.CGROUP_SUPER_MAGIC || fs.Type == unix.CGROUP2_SUPER_MAGIC) {
			unix.Close(fd)
		}
	}
}

func start(program string, args []string) (pid int, err error) {
	attr := &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{}}
	if _, err := unix.IoctlGetTermios(0, unix.TCGETS); err == nil {
		// What is typed there is for the program, and not for this process.
		attr.Sys.Foreground, attr.Sys.Ctty = true, 0
	}
	pid, _, err = syscall.StartProcess(program, args, attr)
	return pid, err
}

// passed says whether a signal is meant for the program: not those that are about
// this process's own children and mistakes, nor those with which its terminal
// stops a process in the background.
func passed(sig syscall.Signal) bool {
	switch sig {
	case unix.SIGCHLD, unix.SIGURG, unix.SIGPIPE, unix.SIGTTIN, unix.SIGTTOU,
		unix.SIGFPE, unix.SIGILL, unix.SIGSEGV, unix.SIGBUS, unix.SIGABRT, unix.SIGTRAP, unix.SIGSYS:
		return false
	}
	return true
}

// wait buries all who end until the program does, and returns its exit code.
func wait(program int) int {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 125
		case pid != program:
		case ws.Signaled():
			return 128 + int(ws.Signal())
		case ws.Exited():
			return ws.ExitStatus()
		}
	}
}
