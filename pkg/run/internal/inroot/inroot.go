// Package inroot opens and makes paths inside a root file system that an
// attacker wrote, and may be writing to at this moment. A path is resolved by
// the kernel, relative to a descriptor of the root, as if that were "/": a
// symbolic link to /etc leads to the root's own etc, ".." stops at the top, and
// nothing is checked first and used later.
package inroot

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Root is a descriptor of a root directory, owned by the caller.
type Root int

// Open opens p with flags; O_CLOEXEC is added. Symbolic links are followed
// inside the root, magic links (/proc/PID/fd and the like) never. The
// descriptor is the caller's.
func (r Root) Open(p string, flags int) (int, error) { return r.open(p, flags, 0) }

// OpenStrict is Open, but fails with ELOOP on any symbolic link.
func (r Root) OpenStrict(p string, flags int) (int, error) {
	return r.open(p, flags, unix.RESOLVE_NO_SYMLINKS)
}

func (r Root) open(p string, flags int, resolve uint64) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | resolve,
	}
	for tries := 0; ; tries++ {
		fd, err := unix.Openat2(int(r), p, &how)
		// EAGAIN: something was renamed anywhere on the system while ".." was
		// being resolved, and the kernel could not prove it harmless.
		if (err == unix.EAGAIN || err == unix.EINTR) && tries < 1000 {
			continue
		}
		return fd, err
	}
}

// MkdirAll makes the directory p and those above it that are missing, mode
// 0755, owned by the caller, and returns an O_PATH descriptor of it. Parts that
// exist are followed as Open does; a link that leads nowhere is an error.
func (r Root) MkdirAll(p string) (int, error) {
	p = path.Clean("/" + p)
	fd, err := r.Open(p, unix.O_PATH|unix.O_DIRECTORY)
	if err != unix.ENOENT {
		return fd, err
	}
	// The longest part that exists.
	have := p
	for {
		have = path.Dir(have)
		fd, err = r.Open(have, unix.O_PATH|unix.O_DIRECTORY)
		if err != unix.ENOENT {
			break
		}
		if have == "/" {
			return -1, err
		}
	}
	if err != nil {
		return -1, err
	}
	for name := range strings.SplitSeq(strings.TrimPrefix(strings.TrimPrefix(p, have), "/"), "/") {
		next, err := mkdir(fd, name)
		unix.Close(fd)
		if err != nil {
			return -1, err
		}
		fd = next
	}
	return fd, nil
}

func mkdir(dir int, name string) (int, error) {
	if err := unix.Mkdirat(dir, name, 0o755); err != nil && err != unix.EEXIST {
		return -1, err
	}
	// Not a link that somebody put there in between.
	return unix.Openat(dir, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// MakeFile returns an O_PATH descriptor of the file p, made empty if nothing is
// there, its directories too.
func (r Root) MakeFile(p string) (int, error) {
	p = path.Clean("/" + p)
	fd, err := r.Open(p, unix.O_PATH)
	if err != unix.ENOENT {
		return fd, err
	}
	dir, err := r.MkdirAll(path.Dir(p))
	if err != nil {
		return -1, err
	}
	defer unix.Close(dir)
	fd, err = unix.Openat(dir, path.Base(p), unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	if err == unix.EEXIST {
		// A link to nowhere, or somebody was faster.
		return unix.Openat(dir, path.Base(p), unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	}
	return fd, err
}

// ErrNotRegular is a file that is read but is a pipe, a device or a directory.
var ErrNotRegular = errors.New("not a regular file")

// ErrTooLarge is a file beyond the bound that its reader set.
var ErrTooLarge = errors.New("file too large")

// ReadFile opens the regular file p for reading, refusing more than limit bytes.
// Nothing but a regular file is ever opened: to open a pipe waits, and to open a
// device can do anything. proc is a descriptor of a procfs that is to be trusted
// and that shows this process.
func (r Root) ReadFile(proc int, p string, limit int64) (*os.File, error) {
	fd, err := r.Open(p, unix.O_PATH)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: p, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: p, Err: err}
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, &fs.PathError{Op: "open", Path: p, Err: ErrNotRegular}
	case st.Size > limit:
		return nil, &fs.PathError{Op: "open", Path: p, Err: ErrTooLarge}
	}
	// The link leads to the very file that was looked at.
	again, err := unix.Openat(proc, "self/fd/"+strconv.Itoa(fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: p, Err: err}
	}
	return os.NewFile(uintptr(again), p), nil
}
