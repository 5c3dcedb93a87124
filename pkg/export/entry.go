package export

import (
	"bytes"
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"peel/pkg/erofs"
)

// entry writes what name, ended by a NUL, stands for in the directory dir, and
// all beneath it. w.path is its whole name. lower is what it lies over, if anything.
func (w *walker) entry(ctx context.Context, dir int, name []byte, lower *erofs.Inode) error {
	if w.o.Kind != Archive && bytes.HasPrefix(name, whiteoutPrefix) {
		w.warn(lostWhiteout, w.name())
		return nil
	}
	fd, err := openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		if err == unix.ENOENT {
			w.warn(lostName, w.name())
			return nil
		}
		return w.fault("open", err)
	}
	return w.handle(ctx, fd, lower)
}

// handle writes what the handle fd stands for, and closes it.
func (w *walker) handle(ctx context.Context, fd int, lower *erofs.Inode) error {
	var st unix.Statx_t
	if err := stat(fd, &st); err != nil {
		unix.Close(fd)
		return w.fault("stat", err)
	}
	h := header{
		name: w.path,
		mode: uint32(st.Mode) & 0o7777,
		uid:  st.Uid,
		gid:  st.Gid,
		sec:  st.Mtime.Sec,
		nsec: st.Mtime.Nsec,
	}
	if w.xattr.marks != "" && isWhiteout(&st) {
		unix.Close(fd)
		return w.whiteout()
	}
	if w.o.Kind == Changes && w.o.Places[string(w.path)] {
		made, err := w.madeForMount(&st, fd)
		if made || err != nil {
			unix.Close(fd)
			return err
		}
	}
	if w.mounted(&st) && (!w.o.Mounts || ofKernel(fd)) {
		unix.Close(fd)
		return w.mountpoint(&h, &st)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return w.regular(&h, &st, fd)
	case unix.S_IFDIR:
		return w.subdirectory(ctx, &h, fd, lower)
	}
	err := w.special(&h, &st, fd)
	unix.Close(fd)
	return err
}

// mounted tells whether a file lies on another mount than the root. A kernel
// before 5.8 does not say on which; then a directory of another device is one.
func (w *walker) mounted(st *unix.Statx_t) bool {
	if st.Mask&w.top.Mask&unix.STATX_MNT_ID != 0 {
		return st.Mnt_id != w.top.Mnt_id
	}
	return st.Mode&unix.S_IFMT == unix.S_IFDIR && (st.Dev_major != w.top.Dev_major || st.Dev_minor != w.top.Dev_minor)
}

// ofKernel tells whether a file is no file, but something that the kernel shows or
// takes as one: what is read of it is of another size than it says, or does things.
func ofKernel(fd int) bool {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return false
	}
	const mqueue = 0x19800202 // MQUEUE_MAGIC of ipc/mqueue.c
	switch int64(fs.Type) {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEVPTS_SUPER_MAGIC,
		unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.SELINUX_MAGIC, unix.BPF_FS_MAGIC, unix.EFIVARFS_MAGIC,
		unix.PSTOREFS_MAGIC, unix.BINFMTFS_MAGIC, mqueue:
		return true
	}
	return false
}

// mountpoint writes the place of something mounted. What lies below it cannot be
// seen, so the owner and mode are those of what is mounted; its time would be
// another at every start of a container, so the directory's stands in.
func (w *walker) mountpoint(h *header, st *unix.Statx_t) error {
	h.sec, h.nsec = w.dirTime, 0
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		h.typ, h.name = typeDir, append(w.path, '/')
	} else {
		h.typ = typeReg
	}
	return w.header(h)
}

func (w *walker) header(h *header) error {
	if n := max(len(h.name), len(h.link)); n > maxName {
		return w.fault("name", &LimitError{"bytes", int64(n), maxName})
	}
	return w.out.write(w.enc.encode(h))
}

// subdirectory closes fd.
func (w *walker) subdirectory(ctx context.Context, h *header, handle int, lower *erofs.Inode) error {
	fd, err := openat(handle, dot, unix.O_RDONLY|unix.O_DIRECTORY)
	unix.Close(handle)
	if err != nil {
		return w.fault("open", err)
	}
	defer unix.Close(fd)
	if err := w.attributes(h, opened(fd)); err != nil {
		return err
	}
	h.typ, h.name = typeDir, append(w.path, '/')
	if err := w.header(h); err != nil {
		return err
	}
	if w.xattr.opaque {
		lower = nil
		if err := w.opaque(); err != nil {
			return err
		}
	}
	return w.directory(ctx, fd, h.sec, lower)
}

// special writes a symbolic link, a device or a FIFO.
func (w *walker) special(h *header, st *unix.Statx_t, fd int) error {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		w.warn(lostSocket, w.name())
		return nil
	case unix.S_IFLNK:
		n, err := readlink(fd, w.target)
		if err != nil {
			return w.fault("readlink", err)
		}
		h.typ, h.link = typeSymlink, w.target[:n]
	case unix.S_IFCHR:
		h.typ, h.major, h.minor = typeChar, st.Rdev_major, st.Rdev_minor
	case unix.S_IFBLK:
		h.typ, h.major, h.minor = typeBlock, st.Rdev_major, st.Rdev_minor
	case unix.S_IFIFO:
		h.typ = typeFifo
	default:
		return w.fault("stat", errors.New("a file of no known type"))
	}
	if done, err := w.linked(h, st, fd); done || err != nil {
		return err
	}
	if err := w.attributes(h, held(fd)); err != nil {
		return err
	}
	return w.header(h)
}

// linked writes a hard link if the file had a name before, and remembers this one
// if it has others.
func (w *walker) linked(h *header, st *unix.Statx_t, handle int) (done bool, err error) {
	if st.Nlink < 2 {
		return false, nil
	}
	key := inode{
		dev:  unix.Mkdev(st.Dev_major, st.Dev_minor),
		ino:  st.Ino,
		born: st.Btime.Sec*1e9 + int64(st.Btime.Nsec),
	}
	known := w.links[key]
	if known == nil {
		w.links[key] = &manyNamed{string(w.path), st.Nlink - 1}
		w.linkBytes += len(w.path)
		return false, w.hold()
	}
	link := *h
	if w.o.Form == OverrideStat {
		// The second name says the same of the file as the first.
		if err := w.attributes(&link, held(handle)); err != nil {
			return false, err
		}
		link.xattrs = nil
	}
	link.typ, link.link, link.size, link.major, link.minor = typeLink, []byte(known.first), 0, 0, 0
	if known.left--; known.left == 0 {
		delete(w.links, key)
		w.linkBytes -= len(known.first)
	}
	return true, w.header(&link)
}

// attributes reads the extended attributes of s and, in the form that keeps it
// there, what it stands for. What it says of h.typ counts for a regular
// file only: nothing else can stand for another thing than it is.
func (w *walker) attributes(h *header, s source) error {
	if err := w.xattr.read(s); err != nil {
		return w.fault("extended attributes", err)
	}
	if w.xattr.unnamable {
		w.warn(lostXattr, w.name())
	}
	if w.xattr.elsewhere {
		return w.fault("layer", errElsewhere)
	}
	h.xattrs = w.xattr.list
	if w.o.Form != OverrideStat {
		return nil
	}
	if w.xattr.override == nil {
		if h.uid == w.uid {
			h.uid = 0
		}
		if h.gid == w.gid {
			h.gid = 0
		}
		return nil
	}
	o, err := parseOverride(w.xattr.override)
	if err != nil {
		return w.fault(overrideStat, err)
	}
	h.uid, h.gid, h.mode = o.uid, o.gid, o.mode
	if h.typ == typeReg && o.typ != 0 {
		h.typ, h.major, h.minor = o.typ, o.major, o.minor
	}
	return nil
}
