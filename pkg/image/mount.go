package image

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"peel/internal/detached"
)

// Mount mounts the image read-only at target, an existing directory. An overlay on
// top makes it a container's root. Where the kernel cannot do it, the error is an
// *UnsupportedError.
func (p *Prepared) Mount(target string) error {
	m, err := p.Tree()
	if err != nil {
		return err
	}
	defer m.Close()
	return m.Attach(target)
}

// Tree mounts the image where nobody else sees it. Each mount has a page cache of
// its own: those who have one already had better clone it.
func (p *Prepared) Tree() (*detached.Mount, error) {
	h, err := newHost()
	if err != nil {
		return nil, err
	}
	return h.mount(p.Index, p.Devices)
}

// mount mounts an index.
func (h host) mount(index string, devices []string) (*detached.Mount, error) {
	if h.files {
		m, err := mountFiles(index, devices)
		if !errors.Is(err, unix.ENOTBLK) {
			return m, err
		}
		// The kernel was built without, or the store's file system is none for it.
	}
	return mountLoops(index, devices)
}

func openErofs() (fd int, err error) {
	fd, err = unix.Fsopen("erofs", unix.FSOPEN_CLOEXEC)
	if errors.Is(err, unix.ENODEV) {
		return -1, &UnsupportedError{"the kernel has no EROFS"}
	}
	return fd, os.NewSyscallError("fsopen", err)
}

// mountFiles mounts an index that is a file or a block device: ENOTBLK where it may
// not be a file.
func mountFiles(index string, devices []string) (*detached.Mount, error) {
	fd, err := openErofs()
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var open []*os.File
	defer func() {
		for _, f := range open {
			f.Close()
		}
	}()
	set := func(key, path string) error {
		// A value is at most 255 bytes long (fsconfig(2)).
		if len(path) > 255 {
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			open = append(open, f)
			path = fmt.Sprintf("/proc/self/fd/%d", f.Fd())
		}
		return unix.FsconfigSetString(fd, key, path)
	}
	if err := set("source", index); err != nil {
		return nil, mountError(fd, err)
	}
	// A block device that cannot be written to is not opened otherwise.
	if err := unix.FsconfigSetFlag(fd, "ro"); err != nil {
		return nil, mountError(fd, err)
	}
	for _, d := range devices {
		if err := set("device", d); err != nil {
			return nil, mountError(fd, err)
		}
	}
	// Never directio, which Linux has had a use after free in (CVE-2026-23224).
	if err := unix.FsconfigCreate(fd); err != nil {
		return nil, mountError(fd, err)
	}
	m, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		return nil, os.NewSyscallError("fsmount", err)
	}
	return detached.New(m, index), nil
}

// mountError adds what the kernel has to say about a mount that failed: messages of
// a letter, a blank and text.
func mountError(fd int, err error) error {
	buf := make([]byte, 1024)
	var said []string
	for range 8 {
		n, readErr := unix.Read(fd, buf)
		if readErr != nil || n <= 0 {
			break
		}
		said = append(said, string(bytes.TrimSpace(buf[:n])))
	}
	if len(said) > 0 {
		return fmt.Errorf("mount erofs: %w (%s)", err, strings.Join(said, "; "))
	}
	return fmt.Errorf("mount erofs: %w", err)
}
