package erofs

import (
	"cmp"
	"slices"
	"strings"
)

// splitXattr finds the number of a name's prefix. An access control list's name is
// nothing but that.
func splitXattr(name string) (index byte, rest string, ok bool) {
	for _, p := range xattrPrefixes {
		if rest, ok = strings.CutPrefix(name, p.prefix); ok && (rest == "") == !strings.HasSuffix(p.prefix, ".") {
			return p.index, rest, true
		}
	}
	return 0, "", false
}

func checkXattrs(list []Xattr) error {
	for n, x := range list {
		_, rest, ok := splitXattr(x.Name)
		if !ok || len(rest) > maxName || strings.IndexByte(x.Name, 0) >= 0 || len(x.Value) >= 1<<16 {
			return ErrXattr
		}
		for _, y := range list[:n] {
			if x.Name == y.Name {
				return ErrXattr
			}
		}
	}
	return nil
}

// xattrLen is the size of an attribute as it stands behind an inode or in the
// shared area.
func xattrLen(x Xattr) int64 {
	_, rest, _ := splitXattr(x.Name)
	return alignUp(int64(xattrEntrySize+len(rest)+len(x.Value)), xattrAlign)
}

// appendXattr appends struct erofs_xattr_entry, its name and value.
func appendXattr(b []byte, x Xattr) []byte {
	index, rest, _ := splitXattr(x.Name)
	size := len(b) + int(xattrLen(x))
	b = append(b, byte(len(rest)), index)
	b = le.AppendUint16(b, uint16(len(x.Value)))
	b = append(b, rest...)
	b = append(b, x.Value...)
	return append(b, make([]byte, size-len(b))...)
}

// shareXattrs finds out which attributes several inodes have, lays them out from
// pos on, and returns where they end. Their numbers count from the start of the
// block that pos is in.
func (l *layout) shareXattrs(pos int64) (int64, error) {
	count := map[Xattr]int{}
	for _, i := range l.inodes {
		for _, x := range i.Xattrs {
			count[x]++
		}
	}
	size := int64(0)
	for x, n := range count {
		if n > 1 {
			l.shared = append(l.shared, x)
			size += xattrLen(x)
		}
	}
	if size > maxShared {
		l.shared = nil
	}
	slices.SortFunc(l.shared, func(a, b Xattr) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Value, b.Value))
	})
	if len(l.shared) > 0 {
		l.sharedBase = pos &^ (l.blockSize() - 1)
	}
	l.sharedNumber = map[Xattr]int{}
	for _, x := range l.shared {
		l.sharedNumber[x] = int((pos - l.sharedBase) / xattrAlign)
		pos += xattrLen(x)
	}
	return pos, l.sizeXattrs()
}

// sizeXattrs finds out what each inode takes for its attributes.
func (l *layout) sizeXattrs() error {
	for _, i := range l.inodes {
		if len(i.Xattrs) == 0 {
			continue
		}
		i.xattrSize = xattrHeaderSize
		for _, x := range i.Xattrs {
			if n, ok := l.sharedNumber[x]; ok && len(i.shared) < 255 {
				i.shared = append(i.shared, n)
				i.xattrSize += xattrAlign
			} else {
				i.xattrSize += xattrLen(x)
			}
		}
		if (i.xattrSize-xattrHeaderSize)/xattrAlign+1 >= 1<<16 {
			return ErrXattr
		}
	}
	return nil
}

// maxShared bounds the shared area, in bytes: the root comes behind it, and must
// be in reach. No honest image has so many attributes that several files have.
const maxShared = 512 << 10

// xattrs appends what stands behind an inode that has attributes.
func (l *layout) xattrs(b []byte, i *Inode) []byte {
	if i.xattrSize == 0 {
		return b
	}
	b = append(b, 0, 0, 0, 0, byte(len(i.shared)), 0, 0, 0, 0, 0, 0, 0)
	for _, n := range i.shared {
		b = le.AppendUint32(b, uint32(n))
	}
	left := len(i.shared) // of those that are shared, the first 255 are meant
	for _, x := range i.Xattrs {
		if _, ok := l.sharedNumber[x]; ok && left > 0 {
			left--
			continue
		}
		b = appendXattr(b, x)
	}
	return b
}
