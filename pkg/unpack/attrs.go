package unpack

import (
	"errors"
	"math"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"peel/pkg/layers/changeset"
	"peel/pkg/layers/tar"
)

// attrs is an entry's metadata.
type attrs struct {
	typ      uint32 // S_IFREG and its like
	mode     uint32 // permission, set-id and sticky bits, as the image has them
	real     uint32 // those that the file gets
	uid, gid uint32 // noID where the archive's number is none
	dev      uint64
	times    [2]unix.Timespec
	xattrs   []xattr
}

type xattr struct {
	name  string
	value []byte
}

// noID is what chown(2) takes for "leave it". No user or group has it.
const noID = math.MaxUint32

func (s *shared) attrsOf(h *tar.Header) attrs {
	a := attrs{mode: h.Mode & 0o7777, uid: id(h.UID), gid: id(h.GID)}
	switch h.Type {
	case tar.TypeDir:
		a.typ = unix.S_IFDIR
	case tar.TypeReg:
		a.typ = unix.S_IFREG
	case tar.TypeSymlink:
		a.typ = unix.S_IFLNK
	case tar.TypeChar:
		a.typ, a.dev = unix.S_IFCHR, unix.Mkdev(uint32(h.Major), uint32(h.Minor))
	case tar.TypeBlock:
		a.typ, a.dev = unix.S_IFBLK, unix.Mkdev(uint32(h.Major), uint32(h.Minor))
	case tar.TypeFifo:
		a.typ = unix.S_IFIFO
	}
	a.real = s.realMode(a.typ, a.mode)
	access := h.AccessTime
	if access.IsZero() {
		access = h.ModTime
	}
	a.times = [2]unix.Timespec{timespec(access), timespec(h.ModTime)}
	return a
}

// implicitAttrs are those of a directory that no entry names: root's, or what stands
// for root.
func (s *shared) implicitAttrs(times [2]unix.Timespec) attrs {
	a := attrs{typ: unix.S_IFDIR, mode: changeset.ImplicitMode, real: changeset.ImplicitMode, times: times}
	if s.caller.owners {
		a.uid, a.gid = s.caller.uid, s.caller.gid
	}
	return a
}

// realMode is the mode of a file of which the image says mode. Who cannot give
// files to others needs to read and write his own: a container's root, whose they
// are, could whatever they say.
func (s *shared) realMode(typ, mode uint32) uint32 {
	if s.dropSetID && typ == unix.S_IFREG {
		mode &^= setID
	}
	switch {
	case s.caller.owners:
	case typ == unix.S_IFDIR:
		mode |= 0o700
	default:
		mode |= 0o600
	}
	return mode
}

const setID = unix.S_ISUID | unix.S_ISGID

func id(n int64) uint32 {
	if n < 0 || n >= noID {
		return noID
	}
	return uint32(n)
}

func timespec(t time.Time) unix.Timespec {
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}

// copyXattrs is h's attributes to restore, names and values copied.
func (l *stage) copyXattrs(h *tar.Header) ([]xattr, error) {
	if len(h.Xattrs) == 0 {
		return nil, nil
	}
	var list []xattr
	for _, x := range h.Xattrs {
		if why := changeset.Refused(x.Name); why != "" {
			if err := l.losses.Lose(changeset.LostOverlay, string(h.Name), "set "+string(x.Name), errors.New(why)); err != nil {
				return nil, err
			}
			continue
		}
		list = append(list, xattr{string(x.Name), append([]byte(nil), x.Value...)})
	}
	return list, nil
}

// numbered tells whether the archive's owner and group are ids at all.
func (a *attrs) numbered() bool { return a.uid != noID && a.gid != noID }

// chownWanted is what of a must be changed to on something that the ids made; it
// is not needed if both are noID.
func (a *attrs) chownWanted(madeUID, madeGID uint32) (uid, gid uint32) {
	uid, gid = a.uid, a.gid
	if uid == madeUID {
		uid = noID
	}
	if gid == madeGID {
		gid = noID
	}
	return uid, gid
}

// tolerable tells whether an error means that this caller or this file system
// cannot keep something, rather than that something broke.
func tolerable(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOTSUP) ||
		errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS)
}

// procPath names what an O_PATH descriptor stands for, for the calls that take
// no such descriptor. It is no path that anyone could swap.
func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
