package erofs

import (
	"cmp"
	"slices"
	"strings"
)

// place is what writing finds out about an inode.
type place struct {
	pass   *layout // the write that the rest belongs to
	links  uint32
	number uint32 // the old kind of inode number, of 32 bits

	layout    byte
	chunkBits byte   // log2 of a chunk's blocks
	start     uint32 // the first block
	pos       int64  // of the inode
	length    int64  // i_size
	tail      int64  // bytes of it behind the inode
	xattrSize int64  // with header, a multiple of 4
	shared    []int  // of Xattrs, those in the shared area: their numbers there
	dir       *dirPlace
}

func (p *place) nid() uint64 { return uint64(p.pos / inodeAlign) }

// collect walks the tree, checks it, and lists its inodes in the order in which
// they will be written: the root, then of each directory all that is in it before
// what is further down, because that is what is asked for together.
func (l *layout) collect() error {
	if len(l.options.Label) > 16 {
		return &Error{"/", ErrTooBig}
	}
	if err := l.checkDevices(); err != nil {
		return err
	}
	if l.root == nil || l.root.Mode&typeMask != typeDir {
		return &Error{"/", ErrRoot}
	}
	if err := l.enter(l.root, l.root); err != nil {
		return &Error{"/", err}
	}
	// Not recursive: how deep the tree is, is for others to decide.
	type step struct {
		dir  *Inode
		path string
	}
	todo := []step{{l.root, ""}}
	for len(todo) > 0 {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		first := len(todo)
		if !slices.IsSortedFunc(at.dir.Entries, byName) {
			slices.SortFunc(at.dir.Entries, byName)
		}
		for n, e := range at.dir.Entries {
			err := checkName(e.Name)
			if err == nil && n > 0 && at.dir.Entries[n-1].Name == e.Name {
				err = ErrTwice
			}
			if err == nil {
				err = l.enter(e.Inode, at.dir)
			}
			if err != nil {
				return &Error{at.path + "/" + e.Name, err}
			}
			if e.Inode.Mode&typeMask == typeDir {
				todo = append(todo, step{e.Inode, at.path + "/" + e.Name})
			}
		}
		slices.Reverse(todo[first:]) // the first is next
	}
	return nil
}

func byName(a, b Dirent) int { return cmp.Compare(a.Name, b.Name) }

func checkName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > maxName || strings.ContainsAny(name, "/\x00") {
		return ErrName
	}
	return nil
}

// enter counts a name of i in dir, and lists i if it is the first.
func (l *layout) enter(i, dir *Inode) error {
	if i == nil {
		return ErrType
	}
	isDir := i.Mode&typeMask == typeDir
	if i.pass == l {
		if isDir {
			return ErrLoop
		}
		if i.links++; i.links == 0 {
			return ErrTooBig
		}
		return nil
	}
	if err := l.check(i); err != nil {
		return err
	}
	i.place = place{pass: l, number: uint32(len(l.inodes) + 1), links: 1}
	if isDir {
		i.links, i.dir = 2, &dirPlace{parent: dir} // its name, and its own "."
		if i != dir {
			dir.links++ // its ".."
		}
	}
	if len(l.inodes) == 1<<32-2 {
		return ErrTooBig
	}
	l.inodes = append(l.inodes, i)
	return nil
}

func (l *layout) check(i *Inode) error {
	if i.Mode > 0o177777 || i.Nsec >= 1e9 {
		return ErrRange
	}
	switch i.Mode & typeMask {
	case typeRegular:
		if err := l.checkPlace(i); err != nil {
			return err
		}
	case typeSymlink:
		if i.Target == "" || len(i.Target) > maxTarget || strings.IndexByte(i.Target, 0) >= 0 {
			return ErrTarget
		}
	case typeChar, typeBlock:
		if i.Rdev.Major >= 1<<12 || i.Rdev.Minor >= 1<<20 {
			return ErrRange
		}
	case typeDir, typeFifo, typeSocket:
	default:
		return ErrType
	}
	return checkXattrs(i.Xattrs)
}

// checkPlace sees to it that no file shows what is not its own.
func (l *layout) checkPlace(i *Inode) error {
	switch {
	case i.Size < 0:
		return ErrRange
	case i.Size == 0:
		return nil
	case i.Device < 1 || i.Device > len(l.devices),
		i.Offset < 0, i.Offset%512 != 0,
		i.Offset > l.devices[i.Device-1].Size, i.Size > l.devices[i.Device-1].Size-i.Offset:
		return ErrPlace
	}
	if !i.Sparse {
		return nil
	}
	end := int64(0)
	for _, r := range i.Data {
		if r.Off < end || r.Len <= 0 || r.Len > i.Size-r.Off {
			return ErrPlace
		}
		end = r.Off + r.Len
	}
	return nil
}

// maxDevices keeps the root within the 2 MiB that its 16-bit nid reaches.
const maxDevices = 1 << 13

func (l *layout) checkDevices() error {
	if len(l.devices) > maxDevices {
		return &Error{"/", ErrDevices}
	}
	for _, d := range l.devices {
		if d.Size < 0 || len(d.Tag) > 64 || !l.embed && d.Size%l.blockSize() != 0 {
			return &Error{"/", ErrRange}
		}
		if l.blocksOf(d.Size) >= nullBlock {
			return &Error{"/", ErrTooBig}
		}
	}
	return nil
}
