package unpack

import (
	"bytes"
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

// dirent is an entry of a directory. Its name ends in a NUL and is good until
// the next step.
type dirent struct {
	name []byte
	typ  byte // DT_DIR and its like
}

func (e dirent) text() string { return string(e.name[:len(e.name)-1]) }

// eachEntry calls do for what is in the directory fd, from its beginning, without
// "." and "..". do may remove the entry it was called for. A buffer lasts for
// about a thousand entries, and there is one a level of recursion.
func eachEntry(fd int, do func(dirent) error) error {
	if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
		return err
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.Getdents(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return err
		}
		// struct linux_dirent64: inode 8, offset 8, record length 2, type 1, name.
		for rest := buf[:n]; len(rest) > 19; {
			size := int(binary.NativeEndian.Uint16(rest[16:]))
			e := dirent{name: rest[19:size], typ: rest[18]}
			rest = rest[size:]
			e.name = e.name[:bytes.IndexByte(e.name, 0)+1]
			if name := string(e.name); name == ".\x00" || name == "..\x00" {
				continue
			}
			if e.typ == unix.DT_UNKNOWN {
				if e.typ, err = typeAt(fd, e.text()); err != nil {
					return err
				}
			}
			if err := do(e); err != nil {
				return err
			}
		}
	}
}

// typeAt is for file systems that do not keep types in directories.
func typeAt(dirfd int, name string) (byte, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(dirfd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return 0, err
	}
	return byte(st.Mode & unix.S_IFMT >> 12), nil // what DT_ types are made of
}

// removeAt removes name, and if it is a directory all below it. What is not there
// is removed already. Links are removed, not followed; each directory is opened
// in the one above it, so that nobody can lead the removal astray.
func removeAt(dirfd int, name string) error {
	err := unix.Unlinkat(dirfd, name, 0)
	switch {
	case err == nil, errors.Is(err, unix.ENOENT):
		return nil
	case !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM): // which POSIX has for directories
		return err
	}
	fd, openErr := openToEmpty(dirfd, name)
	if errors.Is(openErr, unix.ENOTDIR) || errors.Is(openErr, unix.ELOOP) {
		return err
	}
	if openErr != nil {
		return openErr
	}
	defer unix.Close(fd)
	if err := empty(fd); err != nil {
		return err
	}
	return unix.Unlinkat(dirfd, name, unix.AT_REMOVEDIR)
}

// empty removes all that is in the directory fd.
func empty(fd int) error {
	return eachEntry(fd, func(e dirent) error {
		if e.typ == unix.DT_DIR {
			return removeAt(fd, e.text())
		}
		err := unlinkat(fd, e.name, 0)
		if err == unix.ENOENT {
			return nil
		}
		return err
	})
}

// openToEmpty opens a directory so that it can be read and emptied. The owner may
// have taken both from himself, as images do with 0555 and 0000. What is mounted
// there is somebody's data, and ErrMountPoint.
func openToEmpty(dirfd int, name string) (int, error) {
	path, err := unix.Openat(dirfd, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(path)
	if mounted, err := isMountPoint(dirfd, path); err != nil || mounted {
		return -1, errors.Join(err, ErrMountPoint)
	}
	if unix.Faccessat(path, ".", unix.R_OK|unix.W_OK|unix.X_OK, unix.AT_EACCESS) != nil {
		if err := unix.Chmod(procPath(path), 0o700); err != nil {
			return -1, err
		}
	}
	return unix.Openat(path, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// isMountPoint tells whether fd is another mount than dirfd, in which it was found.
// Kernels before 5.8 do not number mounts: to them a bind mount of a file system
// within itself looks like any directory.
func isMountPoint(dirfd, fd int) (bool, error) {
	if dirfd == unix.AT_FDCWD {
		return false, nil // it was a path, the caller's own
	}
	up, err := mountOf(dirfd)
	if err != nil {
		return false, err
	}
	at, err := mountOf(fd)
	return at != up, err
}

// mountOf is a number for the mount that fd lies in: the kernel's, or where there
// is none to be had the file system's.
func mountOf(fd int) (uint64, error) {
	var x unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &x)
	if err == nil && x.Mask&unix.STATX_MNT_ID != 0 {
		return x.Mnt_id, nil
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	return st.Dev, err
}
