package export

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"peel/pkg/erofs"
)

// InMemory writes a tree of which only the names and attributes are in memory, and
// whose files' bytes lie on devices, as Tree would write it if it were unpacked. It
// does not change the tree. Of the options, Form, Mounts and UserXattr mean nothing
// here, and Changes is as Layer.
func InMemory(ctx context.Context, root *erofs.Inode, devices []erofs.Device, w io.Writer, o Options) error {
	lost := &warnings{report: o.Progress}
	m := newMemoryWalker(root, devices, newOutput(ctx, w, nil), lost, o)
	if err := m.walk(ctx, root); err != nil {
		m.out.abort()
		return err
	}
	return m.out.close()
}

// memoryWalker goes through a tree as walker does.
type memoryWalker struct {
	*warnings
	out     *output
	enc     encoder
	devices []erofs.Device
	layer   bool
	// links are the files with several names, and the first of them, once it has
	// been written.
	links  map[*erofs.Inode]string
	xattrs []xattr
}

func newMemoryWalker(root *erofs.Inode, devices []erofs.Device, out *output, lost *warnings, o Options) *memoryWalker {
	m := &memoryWalker{warnings: lost, out: out, devices: devices, layer: o.Kind != Archive, links: map[*erofs.Inode]string{}}
	findLinks(root, map[*erofs.Inode]bool{}, m.links)
	return m
}

func findLinks(d *erofs.Inode, seen map[*erofs.Inode]bool, links map[*erofs.Inode]string) {
	for _, e := range d.Entries {
		switch {
		case e.Inode.Mode&unix.S_IFMT == unix.S_IFDIR:
			findLinks(e.Inode, seen, links)
		case seen[e.Inode]:
			links[e.Inode] = ""
		default:
			seen[e.Inode] = true
		}
	}
}

func (m *memoryWalker) walk(ctx context.Context, root *erofs.Inode) error {
	if m.layer {
		if err := m.header(m.describe([]byte("./"), root)); err != nil {
			return err
		}
	}
	return m.directory(ctx, nil, root)
}

// sorted are the entries of a directory by their names; none of what is no directory.
func sorted(d *erofs.Inode) []erofs.Dirent {
	if d == nil {
		return nil
	}
	return slices.SortedFunc(slices.Values(d.Entries), func(a, b erofs.Dirent) int { return strings.Compare(a.Name, b.Name) })
}

// directory writes the entries of a directory. It appends to path.
func (m *memoryWalker) directory(ctx context.Context, path []byte, d *erofs.Inode) error {
	if len(path) > 0 {
		path = append(path, '/')
	}
	for _, e := range sorted(d) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := m.entry(ctx, append(path, e.Name...), e.Name, e.Inode); err != nil {
			return err
		}
	}
	return nil
}

// entry writes a file, and all beneath it. It appends to path, which is its whole
// name.
func (m *memoryWalker) entry(ctx context.Context, path []byte, name string, i *erofs.Inode) error {
	if m.layer && strings.HasPrefix(name, string(whiteoutPrefix)) {
		m.warn(lostWhiteout, string(path))
		return nil
	}
	h := m.describe(path, i)
	if first, many := m.links[i]; many {
		if first != "" {
			h.typ, h.link, h.size, h.sparse, h.xattrs, h.major, h.minor = typeLink, []byte(first), 0, nil, nil, 0, 0
			return m.header(h)
		}
		m.links[i] = string(path)
	}
	switch h.typ {
	case typeDir:
		h.name = append(path, '/')
		if err := m.header(h); err != nil {
			return err
		}
		return m.directory(ctx, path, i)
	case typeReg:
		return m.regular(path, h, i)
	case 0:
		return &EntryError{string(path), "stat", errors.New("a file of no known type")}
	}
	return m.header(h)
}

// describe makes a header, which is good until the next one.
func (m *memoryWalker) describe(path []byte, i *erofs.Inode) *header {
	h := &header{name: path, mode: i.Mode & 0o7777, uid: i.UID, gid: i.GID, sec: i.Sec, nsec: i.Nsec}
	switch i.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		h.typ, h.size = typeReg, i.Size
	case unix.S_IFDIR:
		h.typ = typeDir
	case unix.S_IFLNK:
		h.typ, h.link = typeSymlink, []byte(i.Target)
	case unix.S_IFCHR:
		h.typ, h.major, h.minor = typeChar, i.Rdev.Major, i.Rdev.Minor
	case unix.S_IFBLK:
		h.typ, h.major, h.minor = typeBlock, i.Rdev.Major, i.Rdev.Minor
	case unix.S_IFIFO:
		h.typ = typeFifo
	}
	m.xattrs = m.xattrs[:0]
	for _, x := range i.Xattrs {
		switch {
		case hidden(x.Name):
		case strings.Contains(x.Name, "="):
			m.warn(lostXattr, string(path))
		default:
			m.xattrs = append(m.xattrs, xattr{[]byte(x.Name), []byte(x.Value)})
		}
	}
	sortXattrs(m.xattrs)
	h.xattrs = m.xattrs
	return h
}

func (m *memoryWalker) header(h *header) error {
	if n := max(len(h.name), len(h.link)); n > maxName {
		return &EntryError{string(bytes.TrimSuffix(h.name, []byte{'/'})), "name", &LimitError{"bytes", int64(n), maxName}}
	}
	return m.out.write(m.enc.encode(h))
}

func (m *memoryWalker) regular(path []byte, h *header, i *erofs.Inode) error {
	if i.Sparse {
		h.sparse = regions(i)
	}
	if err := m.header(h); err != nil {
		return err
	}
	if h.sparse == nil {
		err := m.whole(path, i)
		if err != nil {
			return err
		}
		return m.out.zeros(padding(i.Size))
	}
	stored := int64(0)
	for _, x := range h.sparse {
		if err := m.data(path, i, x); err != nil {
			return err
		}
		stored += x.size
	}
	return m.out.zeros(padding(stored))
}

// whole writes all of a file. From a device that is a file of the machine's, a large
// one goes as the pages it is.
func (m *memoryWalker) whole(path []byte, i *erofs.Inode) error {
	if m.out.sends(i.Size) {
		if f, ok := m.devices[i.Device-1].Bytes.(*os.File); ok {
			return m.out.send(sent{fd: int(f.Fd()), name: string(path), size: i.Size, off: i.Offset, lent: true})
		}
	}
	return m.data(path, i, extent{0, i.Size})
}

// regions is the map of a sparse file; nil where it is better stored plain.
func regions(i *erofs.Inode) []extent {
	list := make([]extent, 0, len(i.Data)+1)
	stored := int64(0)
	for _, r := range i.Data {
		list = append(list, extent{r.Off, r.Len})
		stored += r.Len
	}
	if i.Size-stored < sparseFrom || len(list) > maxExtents {
		return nil
	}
	return closed(list, i.Size)
}

// data writes a part of a file.
func (m *memoryWalker) data(path []byte, i *erofs.Inode, x extent) error {
	for x.size > 0 {
		b, err := m.out.room(x.size)
		if err != nil {
			return err
		}
		b = b[:min(int64(len(b)), x.size)]
		n, err := m.devices[i.Device-1].Bytes.ReadAt(b, i.Offset+x.off)
		if n == 0 {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return &EntryError{string(path), "read", err}
		}
		m.out.filled(n)
		x.off += int64(n)
		x.size -= int64(n)
	}
	return nil
}
