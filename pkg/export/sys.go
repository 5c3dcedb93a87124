package export

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls that are made for every entry, without the copy of its name that
// x/sys would make to end it with a NUL: names here have theirs.

func openat(dir int, name []byte, flags int) (int, error) {
	for {
		fd, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(dir), uintptr(unsafe.Pointer(unsafe.SliceData(name))),
			uintptr(flags|unix.O_CLOEXEC), 0, 0, 0)
		if errno != unix.EINTR {
			return int(fd), fault(errno)
		}
	}
}

// stat asks what fd is. DONT_SYNC: a file system that another process serves
// (FUSE, mounted by the container) is not asked, so it can't keep us waiting.
func stat(fd int, st *unix.Statx_t) error {
	const flags = unix.AT_EMPTY_PATH | unix.AT_STATX_DONT_SYNC
	const mask = unix.STATX_BASIC_STATS | unix.STATX_BTIME | unix.STATX_MNT_ID
	var empty [1]byte
	_, _, errno := unix.Syscall6(unix.SYS_STATX, uintptr(fd), uintptr(unsafe.Pointer(&empty)), flags, mask,
		uintptr(unsafe.Pointer(st)), 0)
	return fault(errno)
}

// readlink reads the target of the link that fd is a handle of.
func readlink(fd int, buf []byte) (int, error) {
	var empty [1]byte
	n, _, errno := unix.Syscall6(unix.SYS_READLINKAT, uintptr(fd), uintptr(unsafe.Pointer(&empty)),
		uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)), 0, 0)
	return int(n), fault(errno)
}

func pread(fd int, b []byte, off int64) (int, error) {
	for {
		n, err := unix.Pread(fd, b, off)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// fault keeps a zero Errno from becoming a non-nil error.
func fault(errno unix.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}
