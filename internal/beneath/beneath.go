// Package beneath opens names that a stranger chose, under a directory.
//
// A rootfs is full of links that its image made, and another process may swap a
// directory for a link between two looks. So no name is ever joined to a path:
// a Dir holds the directory's descriptor and the kernel resolves under it, in
// one of two ways:
//
//	Open    no symbolic link anywhere in the name, none is followed
//	Follow  links are followed as in a chroot: an absolute one, or "..", ends
//	        at the directory and never leads out
//
// Both are one openat2 (Linux 5.6). Where the kernel or a seccomp filter refuses
// that call, the name is walked one component at a time over descriptors that
// are held, which gives the same answers more slowly.
package beneath

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Dir is a directory to resolve names under. It may be used by several
// goroutines at once, until Close.
type Dir struct {
	f    *os.File
	walk bool // openat2 is not to be had
}

// OpenDir opens the directory at path, which is the caller's own choice: links
// in it are followed.
func OpenDir(path string) (*Dir, error) {
	f, err := os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return New(f), nil
}

// New resolves under f, an open directory (O_PATH is enough), which belongs to
// the Dir from then on.
func New(f *os.File) *Dir {
	fd, err := unix.Openat2(int(f.Fd()), ".", &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err == nil {
		unix.Close(fd)
	}
	// Kernels before 5.6 say ENOSYS, seccomp filters that do not know the call
	// EPERM; whatever else it is, the walk will meet it again and say so.
	return &Dir{f: f, walk: err != nil}
}

// File is the directory itself. It stays the Dir's.
func (d *Dir) File() *os.File { return d.f }

// Close closes the directory.
func (d *Dir) Close() error { return d.f.Close() }

// Open opens name, flags and perm as for open(2). A symbolic link as any
// component, the last one too, is ELOOP (with O_PATH|O_NOFOLLOW the last one is
// opened itself); a name that leads out through ".." is EXDEV. An absolute name
// is EXDEV too. The error is a *os.PathError.
func (d *Dir) Open(name string, flags int, perm os.FileMode) (*os.File, error) {
	resolve := uint64(unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS)
	return d.open(name, flags, perm, resolve, strict)
}

// Follow opens name as a process would whose root is the directory, whether name
// is absolute or not.
func (d *Dir) Follow(name string, flags int, perm os.FileMode) (*os.File, error) {
	return d.open(name, flags, perm, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS, inRoot)
}

// retries bounds how often EAGAIN is answered: openat2 gives it when a rename
// anywhere on the machine got in the way of a "..", and asks to try again.
const retries = 128

func (d *Dir) open(name string, flags int, perm os.FileMode, resolve uint64, m mode) (*os.File, error) {
	flags |= unix.O_CLOEXEC
	var fd int
	var err error
	if d.walk {
		fd, err = walk(int(d.f.Fd()), name, flags, perm, m)
	} else {
		how := unix.OpenHow{Flags: uint64(flags), Resolve: resolve}
		if flags&unix.O_CREAT != 0 || flags&unix.O_TMPFILE == unix.O_TMPFILE {
			how.Mode = uint64(perm.Perm())
		}
		for range retries {
			fd, err = unix.Openat2(int(d.f.Fd()), name, &how)
			if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
				break
			}
		}
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Readlink returns the target of the symbolic link at name, which Open's rules
// are applied to. A name that is no link is EINVAL.
func (d *Dir) Readlink(name string) (string, error) {
	f, err := d.Open(name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	target, err := readlink(int(f.Fd()), "")
	if err == unix.ENOENT { // what an empty name gives for a file that is no link
		err = unix.EINVAL
	}
	if err != nil {
		return "", &os.PathError{Op: "readlink", Path: name, Err: err}
	}
	return target, nil
}

func readlink(dirfd int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dirfd, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
