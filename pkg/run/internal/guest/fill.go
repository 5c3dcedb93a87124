package guest

import (
	"errors"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A new volume gets what the image has in its place, as under docker: the directory's
// owner and mode, and directories, files, links and pipes in it. Both sides are open
// directories, no name is followed as a link, and only what proves to be a regular
// file is opened: the image may be hostile, and the volume another container's too.

// filling marks a volume whose first filling has not come to its end.
const filling = "user.peel.filling"

// filler copies one tree.
type filler struct {
	proc int // a procfs that is to be trusted
	// again: what a filling that was interrupted has left is replaced.
	again bool
}

// fill copies the directory image, which lies on the root, into volume if that is
// empty. Both are O_PATH descriptors.
func (g *guest) fill(volume, image int) error {
	if own, err := sameMount(image, g.root.fd()); !own || err != nil {
		return err // the image has nothing there that could be seen
	}
	from, err := openDirAt(image, ".")
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := openDirAt(volume, ".")
	if err != nil {
		return err
	}
	defer to.Close()
	// One container fills it, and others wait for that.
	if err := unix.Flock(int(to.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	_, err = unix.Fgetxattr(int(to.Fd()), filling, nil)
	f := filler{proc: g.proc, again: err == nil}
	if !f.again {
		if _, err := to.Readdirnames(1); err != io.EOF {
			return err
		}
		// Where it cannot be marked, an interrupted one stays as it is.
		_ = unix.Fsetxattr(int(to.Fd()), filling, []byte("1"), 0)
	}
	if err := f.children(from, to); err != nil {
		return err
	}
	if err := f.attributes(from, to); err != nil {
		return err
	}
	if err := unix.Fremovexattr(int(to.Fd()), filling); err != nil && err != unix.ENODATA && err != unix.ENOTSUP {
		return err
	}
	return nil
}

func sameMount(a, b int) (bool, error) {
	var sa, sb unix.Statx_t
	err := unix.Statx(a, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &sa)
	if err == nil {
		err = unix.Statx(b, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &sb)
	}
	return sa.Mnt_id == sb.Mnt_id, err
}

func openDirAt(dir int, name string) (*os.File, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (f filler) children(from, to *os.File) error {
	for {
		names, err := from.Readdirnames(256)
		for _, name := range names {
			if err := f.child(from, to, name); err != nil {
				return &os.PathError{Op: "copy", Path: name, Err: err}
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (f filler) child(from, to *os.File, name string) error {
	src, err := unix.Openat(int(from.Fd()), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	var st unix.Stat_t
	if err := unix.Fstat(src, &st); err != nil {
		return err
	}
	dst := int(to.Fd())
	if f.again && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		if err := unix.Unlinkat(dst, name, 0); err != nil && err != unix.ENOENT {
			return err
		}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return f.directory(src, dst, name)
	case unix.S_IFREG:
		return f.regular(src, dst, name)
	case unix.S_IFLNK:
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(src, "", buf)
		if err == nil {
			err = unix.Symlinkat(string(buf[:n]), dst, name)
		}
		if err != nil {
			return err
		}
	case unix.S_IFIFO:
		if err := unix.Mknodat(dst, name, st.Mode, 0); err != nil {
			return err
		}
	default:
		return nil // a device or a socket is nobody's content
	}
	return unix.Fchownat(dst, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW)
}

func (f filler) directory(src, dst int, name string) error {
	if err := unix.Mkdirat(dst, name, 0o700); err != nil && (err != unix.EEXIST || !f.again) {
		return err
	}
	from, err := openDirAt(src, ".")
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := openDirAt(dst, name)
	if err != nil {
		return err
	}
	defer to.Close()
	if err := f.children(from, to); err != nil {
		return err
	}
	return f.attributes(from, to)
}

func (f filler) regular(src, dst int, name string) error {
	fd, err := unix.Openat(f.proc, "self/fd/"+strconv.Itoa(src), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	from := os.NewFile(uintptr(fd), name)
	defer from.Close()
	fd, err = unix.Openat(dst, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	to := os.NewFile(uintptr(fd), name)
	_, err = io.Copy(to, from)
	if err == nil {
		err = f.attributes(from, to)
	}
	return errors.Join(err, to.Close())
}

// attributes gives a file or directory another's. The order is that of the kernel's
// rules: a new owner clears set-user-id bits and file capabilities.
func (f filler) attributes(from, to *os.File) error {
	src, dst := int(from.Fd()), int(to.Fd())
	var st unix.Stat_t
	if err := unix.Fstat(src, &st); err != nil {
		return err
	}
	if err := unix.Fchown(dst, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(dst, st.Mode&0o7777); err != nil {
		return err
	}
	if err := copyXattrs(src, dst); err != nil {
		return err
	}
	return unix.UtimesNanoAt(f.proc, "self/fd/"+strconv.Itoa(dst), []unix.Timespec{st.Atim, st.Mtim}, 0)
}

// maxXattrs is the kernel's bound on a list of names, and on a value.
const maxXattrs = 64 << 10

func copyXattrs(src, dst int) error {
	buf := make([]byte, maxXattrs)
	n, err := unix.Flistxattr(src, buf)
	if err == unix.ENOTSUP || err == nil && n == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if name == filling || !strings.HasPrefix(name, "user.") && name != "security.capability" {
			continue // labels and lists of access are the host's to give
		}
		value := make([]byte, maxXattrs)
		n, err := unix.Fgetxattr(src, name, value)
		if err == nil {
			err = unix.Fsetxattr(dst, name, value[:n], 0)
		}
		if err != nil && err != unix.ENOTSUP {
			return &os.PathError{Op: "copy attribute", Path: name, Err: err}
		}
	}
	return nil
}
