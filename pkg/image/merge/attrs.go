package merge

import (
	"errors"
	"math"
	"strings"

	"golang.org/x/sys/unix"

	"peel/pkg/erofs"
	"peel/pkg/layers/changeset"
	"peel/pkg/layers/tar"
)

type times struct {
	sec  int64
	nsec uint32
}

func timeOf(h *tar.Header) (sec int64, nsec uint32) {
	return h.ModTime.Unix(), uint32(h.ModTime.Nanosecond())
}

func timesOf(h *tar.Header) times {
	sec, nsec := timeOf(h)
	return times{sec, nsec}
}

// describe makes i what h says, but for its names.
func (l *Layer) describe(i *erofs.Inode, h *tar.Header, r Archive) error {
	i.Mode = h.Mode & 0o7777
	i.Sec, i.Nsec = timeOf(h)
	if err := l.owner(i, h); err != nil {
		return err
	}
	switch h.Type {
	case tar.TypeDir:
		i.Mode |= typeDir
	case tar.TypeReg:
		i.Mode |= typeRegular
		if err := l.body(i, h, r); err != nil {
			return err
		}
	case tar.TypeSymlink:
		i.Mode = typeSymlink | 0o777 // the only mode that Linux gives links
		switch {
		case len(h.Linkname) == 0:
			return &changeset.EntryError{Name: string(h.Name), Op: "symlink", Err: unix.ENOENT}
		case len(h.Linkname) >= unix.PathMax:
			return &changeset.EntryError{Name: string(h.Name), Op: "symlink", Err: unix.ENAMETOOLONG}
		}
		i.Target = string(h.Linkname)
	case tar.TypeChar:
		i.Mode |= typeChar
		i.Rdev = rdev(h)
	case tar.TypeBlock:
		i.Mode |= typeBlock
		i.Rdev = rdev(h)
	case tar.TypeFifo:
		i.Mode |= typeFifo
	default:
		return changeset.ErrType
	}
	return l.xattrs(i, h)
}

// rdev cuts device numbers as mknod(2) does.
func rdev(h *tar.Header) erofs.Rdev {
	return erofs.Rdev{Major: uint32(h.Major) & 0xfff, Minor: uint32(h.Minor) & 0xfffff}
}

// owner sets i's owner. An id that no user or group has is left out.
func (l *Layer) owner(i *erofs.Inode, h *tar.Header) error {
	valid := func(n int64) bool { return n >= 0 && n < math.MaxUint32 }
	if valid(h.UID) && valid(h.GID) {
		i.UID, i.GID = uint32(h.UID), uint32(h.GID)
		return nil
	}
	if h.Type != tar.TypeLink && h.Type <= tar.TypeFifo {
		return l.Losses.Lose(changeset.LostOwner, string(h.Name), "chown", unix.EINVAL)
	}
	return nil
}

// body finds out where a file's bytes lie.
func (l *Layer) body(i *erofs.Inode, h *tar.Header, r Archive) error {
	i.Size, i.Device, i.Offset = h.Size, l.device, h.BodyOffset
	if !h.Sparse {
		return nil
	}
	i.Sparse = true
	for _, e := range h.Extents {
		i.Data = append(i.Data, erofs.Region{Off: e.Off, Len: e.Len})
	}
	if err := changeset.Exceeded("bytes of names and attributes", l.held.Add(int64(len(i.Data))*16), maxHeld); err != nil {
		return err
	}
	var err error
	i.Offset, err = l.expander.Expand(h, r)
	l.sparse = append(l.sparse, i)
	return err
}

// xattrs gives i the attributes that a file system would let it have.
func (l *Layer) xattrs(i *erofs.Inode, h *tar.Header) error {
	total := 0
	for _, x := range h.Xattrs {
		if why := changeset.Refused(x.Name); why != "" {
			if err := l.Losses.Lose(changeset.LostOverlay, string(h.Name), "set "+string(x.Name), errors.New(why)); err != nil {
				return err
			}
			continue
		}
		got, err := settable(i.Mode, erofs.Xattr{Name: string(x.Name), Value: string(x.Value)})
		if total += len(got.Name) + len(got.Value) + 8; total > maxXattrs {
			err = unix.ENOSPC
		}
		if err != nil {
			if err := l.Losses.Lose(changeset.LostXattr, string(h.Name), "set "+changeset.Printable(string(x.Name)), err); err != nil {
				return err
			}
			continue
		}
		if got.Name != "" {
			i.Xattrs = append(i.Xattrs, got)
		}
	}
	return nil
}

// maxXattrs is what the format can hold for one inode, or nearly so.
const maxXattrs = 256 << 10

// settable does what setxattr(2) does for root: it refuses what makes no sense, and
// returns what getxattr(2) would give afterwards, or nothing.
func settable(mode uint32, x erofs.Xattr) (erofs.Xattr, error) {
	typ := mode & typeMask
	space, rest, _ := strings.Cut(x.Name, ".")
	switch {
	case x.Name == aclAccess || x.Name == aclDefault:
		return settableACL(mode, x)
	case space != "user" && space != "trusted" && space != "security":
		return x, unix.ENOTSUP
	case rest == "", strings.IndexByte(x.Name, 0) >= 0:
		return x, unix.EINVAL
	case space == "user" && typ != typeRegular && typ != typeDir:
		return x, unix.EPERM
	case len(x.Value) >= 1<<16:
		return x, unix.ENOSPC
	case x.Name == "security.capability" && x.Value != "" && !validCapability(x.Value):
		return x, unix.EINVAL
	}
	return x, nil
}

// validCapability tells whether a value has the form of vfs_cap_data or
// vfs_ns_cap_data (capabilities(7), File capability extended attribute versioning).
func validCapability(v string) bool {
	return len(v) == 20 && v[3] == 2 || len(v) == 24 && v[3] == 3
}
