// Package rawfork starts programs in ways that os/exec cannot: out of a child
// that enters a user namespace, or that waits until its new one has been given
// its ids, or that shares nothing with this process.
//
// setns(2) refuses a user namespace to a process with more than one thread, and a
// Go program always has more. A child right after clone has one, and until its
// execve it is a copy of this process in which nothing of the Go runtime may be
// used: no allocation, no lock, no growing of the stack, nothing but system
// calls. All that the child needs is prepared before.
//
// It is a copy, and not a vfork that borrows our memory as os/exec makes it: who
// may trace the child, once it is in a container, could write to ours.
package rawfork

import (
	"errors"
	"fmt"
	"os"
	"slices"
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
	// Root makes the child root of its user namespace, in no other group; with
	// KeepGroups in those that this process is in.
	Root       bool
	KeepGroups bool
	Setsid     bool
	// Ctty makes descriptor 0 the controlling terminal.
	Ctty bool
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
	groups bool // kept
	setsid bool
	ctty   bool
	gate   uintptr // read until a byte comes; 0: no gate
	report uintptr // where its errno goes
}

// lowest is above all numbers that Files become.
const lowest = 64

// Child is a child that is prepared and can be forked, once.
type Child struct {
	child
	prepare          func(pid int) error
	dups             []int
	reportR, reportW *os.File
	gateR, gateW     *os.File
}

// New prepares a child that will execute path.
func New(path string, argv []string, a *Attr) (*Child, error) {
	c := &Child{prepare: a.Prepare, child: child{
		flags: a.Flags, cgroup: uint64(a.Cgroup), userNS: uintptr(a.UserNS), root: a.Root, groups: a.KeepGroups, setsid: a.Setsid, ctty: a.Ctty,
	}}
	if err := c.strings(path, argv, a.Env); err != nil {
		return nil, err
	}
	err := c.descriptors(a)
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Child) strings(path string, argv, env []string) error {
	var err error
	if c.path, err = syscall.BytePtrFromString(path); err != nil {
		return err
	}
	args, err := syscall.SlicePtrFromStrings(argv)
	if err != nil {
		return err
	}
	vars, err := syscall.SlicePtrFromStrings(env)
	if err != nil {
		return err
	}
	c.argv, c.envp = &args[0], &vars[0]
	return nil
}

func (c *Child) descriptors(a *Attr) error {
	for _, f := range a.Files {
		fd, err := unix.FcntlInt(f, unix.F_DUPFD_CLOEXEC, lowest)
		if err != nil {
			return err
		}
		c.dups = append(c.dups, fd)
		c.files = append(c.files, uintptr(fd))
	}
	var err error
	if c.reportR, c.reportW, err = highPipe(); err != nil {
		return err
	}
	c.report = c.reportW.Fd()
	if a.Prepare == nil {
		return nil
	}
	if c.gateR, c.gateW, err = highPipe(); err != nil {
		return err
	}
	c.gate = c.gateR.Fd()
	return nil
}

// Close lets go of what the child was prepared with.
func (c *Child) Close() {
	for _, fd := range c.dups {
		unix.Close(fd)
	}
	c.dups = nil
	for _, f := range []*os.File{c.reportR, c.reportW, c.gateR, c.gateW} {
		if f != nil {
			f.Close()
		}
	}
}

// Isolate gives the calling thread a table of descriptors of its own, in which
// there is nothing from number 3 on but what the child needs until its execve.
// The thread is locked to its goroutine and good for nothing after that but Fork.
func (c *Child) Isolate() error {
	if err := unix.Unshare(unix.CLONE_FILES); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	keep := append(slices.Clone(c.dups), int(c.report))
	if c.gate != 0 {
		keep = append(keep, int(c.gate))
	}
	slices.Sort(keep)
	from := 3
	for _, fd := range append(keep, -1) {
		to := uint(fd) - 1
		if fd < 0 {
			to = ^uint(0)
		}
		if uint(from) <= to {
			if err := unix.CloseRange(uint(from), to, 0); err != nil {
				return os.NewSyscallError("close_range", err)
			}
		}
		from = fd + 1
	}
	return nil
}

// Fork forks the child. It is called on the thread whose cgroups, namespaces,
// credentials and filter the child shall have, and makes no other system call
// than clone. Descriptors of the child are not closed by it: Finish and Close.
func (c *Child) Fork() (pid int, err error) {
	// No other fork of this process may copy the descriptors meanwhile.
	syscall.ForkLock.Lock()
	pid, errno := fork(&c.child)
	syscall.ForkLock.Unlock()
	if errno != 0 {
		return 0, os.NewSyscallError("clone", errno)
	}
	return pid, nil
}

// Finish waits until the child has become its program. It is called on a thread
// that was not isolated. After an error the child has been waited for.
func (c *Child) Finish(pid int) (pidfd *os.File, err error) {
	// Our child, and not waited for: the number is its own.
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	c.reportW.Close()
	if c.gateW != nil {
		if err = c.prepare(pid); err == nil {
			_, err = c.gateW.Write([]byte{1})
		}
		c.gateW.Close() // without a byte the child ends
	}
	if err == nil {
		err = readErrno(c.reportR)
	}
	if err != nil {
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		unix.Close(fd)
		var ws unix.WaitStatus
		for {
			if _, werr := unix.Wait4(pid, &ws, 0, nil); werr != unix.EINTR {
				return nil, err
			}
		}
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// Start does all of it.
func Start(path string, argv []string, a *Attr) (pid int, pidfd *os.File, err error) {
	c, err := New(path, argv, a)
	if err != nil {
		return 0, nil, err
	}
	defer c.Close()
	if pid, err = c.Fork(); err != nil {
		return 0, nil, err
	}
	pidfd, err = c.Finish(pid)
	return pid, pidfd, err
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

// steps name what the child was doing when it failed.
var steps = [...]string{"execve", "wait for the id maps", "enter the user namespace", "become root of the user namespace", "new session", "dup3", "controlling terminal"}

const (
	stepExec = iota
	stepGate
	stepUserNS
	stepRoot
	stepSession
	stepDup
	stepTerminal
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
func fork(c *child) (pid int, errno syscall.Errno) {
	args := cloneArgs{flags: c.flags | unix.CLONE_INTO_CGROUP, exitSignal: uint64(unix.SIGCHLD), cgroup: c.cgroup}
	// Signals are blocked from here on, so that no handler of ours runs in the
	// child.
	runtimeBeforeFork()
	var r uintptr
	if c.cgroup != 0 {
		r, _, errno = syscall.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args), 0)
	} else {
		// Not clone3, which docker's profile refuses: its flags lie in memory,
		// where a filter cannot look.
		r, _, errno = syscall.RawSyscall6(unix.SYS_CLONE, uintptr(c.flags)|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	}
	if errno != 0 || r != 0 {
		runtimeAfterFork()
		return int(r), errno
	}
	inChild(c)
	return 0, 0
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
		if !c.groups {
			// Fails where the namespace may not change groups; then there are none
			// in it to have.
			_, _, _ = syscall.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0)
		}
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
	if c.ctty {
		step = stepTerminal
		if _, _, errno = syscall.RawSyscall(unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 0); errno != 0 {
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
