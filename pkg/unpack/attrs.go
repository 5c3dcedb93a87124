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
	mode     uint32 // permission, set-id and sticky bits
	uid, gid uint32 // noID where the archive's number is none
	times    [2]unix.Timespec
	xattrs   []xattr
}

type xattr struct {
	name  string
	value []byte
}

// noID is what chown(2) takes for "leave it". No user or group has it.
const noID = math.MaxUint32

func attrsOf(h *tar.Header) attrs {
	a := attrs{mode: h.Mode & 0o7777, uid: id(h.UID), gid: id(h.GID)}
	access := h.AccessTime
	if access.IsZero() {
		access = h.ModTime
	}
	a.times = [2]unix.Timespec{timespec(access), timespec(h.ModTime)}
	return a
}

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
