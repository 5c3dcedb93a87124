package unpack

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls that are made once an entry, on names that end in a NUL already:
// x/sys would copy each name to add one. All retry on EINTR where the kernel may
// give it.

func openat(dir int, name []byte, flags int, mode uint32) (int, error) {
	for {
		fd, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(dir), uintptr(unsafe.Pointer(unsafe.SliceData(name))), uintptr(flags|unix.O_CLOEXEC|unix.O_LARGEFILE), uintptr(mode), 0, 0)
		if errno != unix.EINTR {
			return int(fd), fault(errno)
		}
	}
}

func mkdirat(dir int, name []byte, mode uint32) error {
	_, _, errno := unix.Syscall(unix.SYS_MKDIRAT, uintptr(dir), uintptr(unsafe.Pointer(unsafe.SliceData(name))), uintptr(mode))
	return fault(errno)
}

func mknodat(dir int, name []byte, mode uint32, dev uint64) error {
	_, _, errno := unix.Syscall6(unix.SYS_MKNODAT, uintptr(dir), uintptr(unsafe.Pointer(unsafe.SliceData(name))), uintptr(mode), uintptr(dev), 0, 0)
	return fault(errno)
}

func symlinkat(target []byte, dir int, name []byte) error {
	_, _, errno := unix.Syscall(unix.SYS_SYMLINKAT, uintptr(unsafe.Pointer(unsafe.SliceData(target))), uintptr(dir), uintptr(unsafe.Pointer(unsafe.SliceData(name))))
	return fault(errno)
}

func linkat(fromDir int, from []byte, dir int, name []byte) error {
	_, _, errno := unix.Syscall6(unix.SYS_LINKAT, uintptr(fromDir), uintptr(unsafe.Pointer(unsafe.SliceData(from))), uintptr(dir), uintptr(unsafe.Pointer(unsafe.SliceData(name))), 0, 0)
	return fault(errno)
}

func unlinkat(dir int, name []byte, flags int) error {
	_, _, errno := unix.Syscall(unix.SYS_UNLINKAT, uintptr(dir), uintptr(unsafe.Pointer(unsafe.SliceData(name))), uintptr(flags))
	return fault(errno)
}

func lchownat(dir int, name []byte, uid, gid uint32) error {
	_, _, errno := unix.Syscall6(unix.SYS_FCHOWNAT, uintptr(dir), uintptr(unsafe.Pointer(unsafe.SliceData(name))), uintptr(uid), uintptr(gid), unix.AT_SYMLINK_NOFOLLOW, 0)
	return fault(errno)
}

func lutimesat(dir int, name []byte, t *[2]unix.Timespec) error {
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(dir), uintptr(unsafe.Pointer(unsafe.SliceData(name))), uintptr(unsafe.Pointer(t)), unix.AT_SYMLINK_NOFOLLOW, 0, 0)
	return fault(errno)
}

func futimens(fd int, t *[2]unix.Timespec) error {
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(t)), 0, 0, 0)
	return fault(errno)
}

// writeAll writes b to fd at off, or where fd stands if off is negative.
func writeAll(fd int, b []byte, off int64) error {
	for len(b) > 0 {
		var n int
		var err error
		if off < 0 {
			n, err = unix.Write(fd, b)
		} else {
			n, err = unix.Pwrite(fd, b, off)
			off += int64(max(n, 0))
		}
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// nul appends name and a NUL to buf.
func nul(buf []byte, name string) []byte { return append(append(buf[:0], name...), 0) }

// fault keeps a zero Errno from becoming a non-nil error.
func fault(errno unix.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}
