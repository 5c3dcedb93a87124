package seccomp

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Install puts the filter on the calling thread, which must be locked to its
// goroutine, and which must hold CAP_SYS_ADMIN in its user namespace or have
// no_new_privs set. It makes the one system call and touches nothing after it.
func (p *Program) Install() error {
	prog := unix.SockFprog{Len: uint16(len(p.Filter)), Filter: unsafe.SliceData(p.Filter)}
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(p.Flags), uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return errno
	}
	return nil
}
