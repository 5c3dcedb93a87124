package guest

import (
	"errors"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"peel/internal/beneath"
)

// rootDir is a root file system that an attacker wrote, and may be writing to at
// this moment. It is package beneath in the terms of the mount calls: plain
// descriptors, which are the caller's, and bare errnos.
type rootDir struct{ dir *beneath.Dir }

// newRootDir takes over fd, an open directory.
func newRootDir(fd int) rootDir { return rootDir{beneath.New(os.NewFile(uintptr(fd), "root"))} }

// fd is the directory itself. It stays the rootDir's.
func (r rootDir) fd() int { return int(r.dir.File().Fd()) }

// open opens p, links followed as a process in the container would.
func (r rootDir) open(p string, flags int) (int, error) { return detach(r.dir.Follow(p, flags, 0)) }

// openStrict fails with ELOOP on any symbolic link.
func (r rootDir) openStrict(p string, flags int) (int, error) {
	p = strings.TrimPrefix(path.Clean("/"+p), "/")
	if p == "" {
		p = "."
	}
	return detach(r.dir.Open(p, flags, 0))
}

func detach(f *os.File, err error) (int, error) {
	if err != nil {
		var errno unix.Errno
		if errors.As(err, &errno) {
			return -1, errno
		}
		return -1, err
	}
	defer f.Close()
	return unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
}

// mkdirAll makes the directory p and those above it that are missing, mode
// 0755, owned by the caller, and returns an O_PATH descriptor of it. Parts that
// exist are followed as open does; a link that leads nowhere is an error.
func (r rootDir) mkdirAll(p string) (int, error) {
	p = path.Clean("/" + p)
	fd, err := r.open(p, unix.O_PATH|unix.O_DIRECTORY)
	if err != unix.ENOENT {
		return fd, err
	}
	// The longest part that exists.
	have := p
	for {
		have = path.Dir(have)
		fd, err = r.open(have, unix.O_PATH|unix.O_DIRECTORY)
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

// makeFile returns an O_PATH descriptor of the file p, made empty if nothing is
// there, its directories too.
func (r rootDir) makeFile(p string) (int, error) {
	p = path.Clean("/" + p)
	fd, err := r.open(p, unix.O_PATH)
	if err != unix.ENOENT {
		return fd, err
	}
	dir, err := r.mkdirAll(path.Dir(p))
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

// openRegular opens the regular file p for reading. Nothing else is ever opened:
// to open a pipe waits, and to open a device can do anything. proc is a
// descriptor of a procfs that is to be trusted and that shows this process.
func (r rootDir) openRegular(proc int, p string) (*os.File, error) {
	fd, err := r.open(p, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errNotRegular
	}
	// The link leads to the very file that was looked at.
	again, err := unix.Openat(proc, "self/fd/"+strconv.Itoa(fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(again), p), nil
}

var errNotRegular = errors.New("not a regular file")
