// Package detached has mounts that are attached nowhere, as fsmount(2) and
// open_tree(2) make them. Such a mount is known by a descriptor alone: no path leads
// to it, and it ends when the descriptor is closed, unless it was attached before.
package detached

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Mount is the descriptor of a mount. It is shown to functions only, while it is
// certainly open: a number that was kept could be another file's by the time it is
// used, as a file that nobody knows any more is closed.
type Mount struct{ file *os.File }

// New takes over the descriptor of a mount. name is for errors.
func New(fd int, name string) *Mount { return &Mount{os.NewFile(uintptr(fd), name)} }

// Close ends the mount, unless it is attached or a descriptor of Dup's is open.
func (m *Mount) Close() error { return m.file.Close() }

// Do calls f with the descriptor, which f must neither close nor keep.
func (m *Mount) Do(f func(fd int) error) error {
	defer runtime.KeepAlive(m)
	return f(int(m.file.Fd()))
}

// Dup returns the descriptor once more, to be inherited by another process or to
// read the mount's root. It is the caller's to close.
func (m *Mount) Dup() (f *os.File, err error) {
	err = m.Do(func(fd int) error {
		fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err == nil {
			f = os.NewFile(uintptr(fd), m.file.Name())
		}
		return os.NewSyscallError("fcntl", err)
	})
	return f, err
}

// Again returns the same mount once more. It ends with the last of them.
func (m *Mount) Again() (*Mount, error) {
	f, err := m.Dup()
	if err != nil {
		return nil, err
	}
	return &Mount{f}, nil
}

// Clone makes another mount of the same file system, so that one of them can be
// attached. Of a mount that is attached nowhere it can be done since Linux 6.15.
func (m *Mount) Clone() (c *Mount, err error) {
	err = m.Do(func(fd int) error {
		fd, err := unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
		if err == nil {
			c = New(fd, m.file.Name())
		}
		return os.NewSyscallError("open_tree", err)
	})
	return c, err
}

// Attach attaches the mount at target, an existing directory. It can be done once.
func (m *Mount) Attach(target string) error {
	return m.Do(func(fd int) error {
		if err := unix.MoveMount(fd, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return &os.PathError{Op: "mount", Path: target, Err: err}
		}
		return nil
	})
}
