// Package rawfork starts programs in ways that os/exec cannot: out of a child
// that enters a user namespace, or that waits until its new one has been given
// its ids.
//
// setns(2) refuses a user namespace to a process with more than one thread, and a
// Go program always has more. A child right after clone has one, and until its
// execve it is a copy of this process in which nothing of the Go runtime may be
// used: no allocation, no lock, no growing of the stack, nothing but system
// calls. All that the child needs is prepared before.
package rawfork

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Attr says how the child starts.
type Attr struct {
	// Files become its descriptors from 0 on.
	Files []uintptr
	Env   []string
	// Flags are CLONE_NEW* for clone.
	Flags uint64
	// UserNS is a descriptor of a user namespace, or a pidfd of a process in it,
	// that the child enters; 0 for none.
	UserNS int
	// Prepare is called with the child's pid while the child waits, before its
	// execve: to write its id maps. nil: it does not wait.
	Prepare func(pid int) error
	// Cgroup is a descriptor of the cgroup v2 directory that the child is born
	// in; 0 for that of this process.
	Cgroup int
	// Root makes the child root of its user namespace.
	Root   bool
	Setsid bool
}

// child is all that the child needs, in a form that it can use.
type child struct {
	path   *byte
	argv   **byte
	envp   **byte
	files  []uintptr // each above the numbers that they become
	flags  uint64
	cgroup uint64
	userNS uintptr
	root   bool
	setsid bool
	gate   uintptr // read until a byte comes; 0: no gate
	report uintptr // where its errno goes
}

// lowest is above all numbers that Files become.
const lowest = 64

// Start starts the program at path and returns its pid and a pidfd of it. It is
// called on the thread whose cgroups and namespaces the child shall have.
func Start(path string, argv []string, a *Attr) (pid int, pidfd *os.File, err error) {
	c := child{flags: a.Flags, cgroup: uint64(a.Cgroup), userNS: uintptr(a.UserNS), root: a.Root, setsid: a.Setsid}
	if c.path, err = syscall.BytePtrFromString(path); err != nil {
		return 0, nil, err
	}
	args, err := syscall.SlicePtrFromStrings(argv)
	if err != nil {
		return 0, nil, err
	}
	env, err := syscall.SlicePtrFromStrings(a.Env)
	if err != nil {
		return 0, nil, err
	}
	c.argv, c.envp = &args[0], &env[0]
	for _, f := range a.Files {
		fd, err := unix.FcntlInt(f, unix.F_DUPFD_CLOEXEC, lowest)
		if err != nil {
			return 0, nil, err
		}
		defer unix.Close(fd)
		c.files = append(c.files, uintptr(fd))
	}
	reportR, reportW, err := highPipe()
	if err != nil {
		return 0, nil, err
	}
	defer reportR.Close()
	defer reportW.Close()
	c.report = reportW.Fd()
	var gate *os.File
	if a.Prepare != nil {
		r, w, err := highPipe()
		if err != nil {
			return 0, nil, err
		}
		defer r.Close()
		defer w.Close()
		c.gate, gate = r.Fd(), w
	}

	// No other fork of this process may copy the descriptors meanwhile.
	syscall.ForkLock.Lock()
	n, fd, errno := fork(&c)
	syscall.ForkLock.Unlock()
	if errno != 0 {
		return 0, nil, os.NewSyscallError("clone3", errno)
	}
	pidfd = os.NewFile(uintptr(fd), "pidfd")
	reportW.Close()
	if gate != nil {
		if err = a.Prepare(n); err == nil {
			_, err = gate.Write([]byte{1})
		}
		gate.Close() // without a byte the child ends
	}
	if err == nil {
		err = readErrno(reportR)
	}
	if err != nil {
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		var ws unix.WaitStatus
		for {
			if _, werr := unix.Wait4(n, &ws, 0, nil); werr != unix.EINTR {
				break
			}
		}
		pidfd.Close()
		return 0, nil, err
	}
	return n, pidfd, nil
}

// highPipe makes a pipe clear of the numbers that Files become.
func highPipe() (r, w *os.File, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe2", err)
	}
	var up [2]int
	for i, fd := range p {
		up[i], err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, lowest)
		unix.Close(fd)
		if err != nil {
			return nil, nil, err
		}
	}
	return os.NewFile(uintptr(up[0]), "pipe"), os.NewFile(uintptr(up[1]), "pipe"), nil
}

// step names what the child was doing when it failed.
var steps = [...]string{"execve", "wait for the id maps", "enter the user namespace", "become root of the user namespace", "new session", "dup3"}

const (
	stepExec = iota
	stepGate
	stepUserNS
	stepRoot
	stepSession
	stepDup
)

// readErrno waits for the child's execve: it closes the pipe, or what went wrong
// comes out of it.
func readErrno(r *os.File) error {
	var b [2]byte
	n, err := r.Read(b[:])
	if n == 0 {
		return nil
	}
	if n != len(b) || int(b[0]) >= len(steps) {
		return fmt.Errorf("the child's report: %w", errors.Join(err, unix.EPROTO))
	}
	return os.NewSyscallError(steps[b[0]], syscall.Errno(b[1]))
}

//go:linkname runtimeBeforeFork syscall.runtime_BeforeFork
func runtimeBeforeFork()

//go:linkname runtimeAfterFork syscall.runtime_AfterFork
func runtimeAfterFork()

//go:linkname runtimeAfterForkInChild syscall.runtime_AfterForkInChild
func runtimeAfterForkInChild()

// cloneArgs is struct clone_args.
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// fork clones this process. The child never returns from it.
//
//go:norace
//go:noinline
func fork(c *child) (pid, pidfd int, errno syscall.Errno) {
	var fd int32
	args := cloneArgs{flags: c.flags | unix.CLONE_PIDFD, pidfd: uint64(uintptr(unsafe.Pointer(&fd))), exitSignal: uint64(unix.SIGCHLD)}
	if c.cgroup != 0 {
		args.flags, args.cgroup = args.flags|unix.CLONE_INTO_CGROUP, c.cgroup
	}
	// Signals are blocked from here on, so that no handler of ours runs in the
	// child.
	runtimeBeforeFork()
	r, _, errno := syscall.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args), 0)
	if errno != 0 || r != 0 {
		runtimeAfterFork()
		return int(r), int(fd), errno
	}
	inChild(c)
	return 0, 0, 0
}

// inChild is the child until its execve.
//
//go:norace
//go:nosplit
func inChild(c *child) {
	runtimeAfterForkInChild()
	var b [2]byte
	step := byte(stepExec)
	var errno syscall.Errno
	if c.gate != 0 {
		step = stepGate
		r, _, e := syscall.RawSyscall(unix.SYS_READ, c.gate, uintptr(unsafe.Pointer(&b[0])), 1)
		if e != 0 || r != 1 {
			errno = e
			goto failed
		}
	}
	if c.userNS != 0 {
		step = stepUserNS
		if _, _, errno = syscall.RawSyscall(unix.SYS_SETNS, c.userNS, unix.CLONE_NEWUSER, 0); errno != 0 {
			goto failed
		}
	}
	if c.root {
		step = stepRoot
		// Fails where the namespace may not change groups; then there are none
		// in it to have.
		_, _, _ = syscall.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0)
		if _, _, errno = syscall.RawSyscall(unix.SYS_SETRESGID, 0, 0, 0); errno != 0 {
			goto failed
		}
		if _, _, errno = syscall.RawSyscall(unix.SYS_SETRESUID, 0, 0, 0); errno != 0 {
			goto failed
		}
	}
	if c.setsid {
		step = stepSession
		if _, _, errno = syscall.RawSyscall(unix.SYS_SETSID, 0, 0, 0); errno != 0 {
			goto failed
		}
	}
	step = stepDup
	for i := 0; i < len(c.files); i++ {
		if _, _, errno = syscall.RawSyscall(unix.SYS_DUP3, c.files[i], uintptr(i), 0); errno != 0 {
			goto failed
		}
	}
	step = stepExec
	_, _, errno = syscall.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(c.path)), uintptr(unsafe.Pointer(c.argv)), uintptr(unsafe.Pointer(c.envp)))
failed:
	b[0], b[1] = step, byte(errno)
	_, _, _ = syscall.RawSyscall(unix.SYS_WRITE, c.report, uintptr(unsafe.Pointer(&b[0])), 2)
	for {
		_, _, _ = syscall.RawSyscall(unix.SYS_EXIT_GROUP, 253, 0, 0)
	}
}
