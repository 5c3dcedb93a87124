package merge

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"peel/pkg/erofs"
	"peel/pkg/layers/changeset"
	"peel/pkg/layers/tar"
)

// Job is what all layers of an image share.
type Job struct {
	Limits changeset.Limits
	Losses *changeset.Losses

	entries, bytes, kept, held atomic.Int64 // so far, of all layers
}

// maxHeld bounds the memory that an image's names and attributes take, in bytes.
const maxHeld = 1 << 30

// Expander gives a sparse file's bytes, which a tar holds without the holes
// between them, a place where there are holes.
type Expander interface {
	// Expand returns the offset, a multiple of 512, at which the file that h describes
	// begins on the layer's device for such files. It reads the file's pieces from r
	// unless it has them already.
	Expand(h *tar.Header, r Archive) (int64, error)
}

// Archive is what a layer's entries come from; a *tar.Reader is one.
type Archive interface {
	Next() (*tar.Header, error)
	Piece() (tar.Piece, error)
}

// Layer is the tree of one layer: its entries and nothing else. What they say about
// other layers is kept for Merge: whiteouts, and hard links to what is not here.
type Layer struct {
	*Job
	root      *dir
	whiteouts []victim
	hidden    []victim // what entries hid that have been replaced themselves since
	links     []lowerLink
	linkedTo  map[string]int // the last of links with that path
	sparse    []*erofs.Inode

	device   int
	blobSize int64
	expander Expander

	nameBuf, linkBuf []byte
	lastPath         []byte // a parent as spelled, and what it led to
	lastDir          *dir
	turned           bool          // the last walk followed a link
	slab             []erofs.Inode // not used yet
}

// victim is a whiteout: name in dir, or all of dir where name is empty.
type victim struct{ dir, name string }

// Read makes the tree of the image's layer number index, whose blob has blobSize
// bytes. It reads the tar up to the end of the archive. Errors about an entry are
// *changeset.EntryError or *tar.Error.
func Read(ctx context.Context, j *Job, r Archive, index int, blobSize int64, e Expander) (*Layer, error) {
	l := &Layer{Job: j, device: index + 1, blobSize: blobSize, expander: e}
	// What the root is unless an entry tells. Its time will be the first entry's.
	l.root = &dir{inode: &erofs.Inode{Mode: typeDir | changeset.ImplicitMode}}
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return l, nil
		}
		if err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := l.entry(h, r); err != nil {
			if e := (*changeset.EntryError)(nil); errors.As(err, &e) {
				return nil, err
			}
			if e := (*tar.Error)(nil); errors.As(err, &e) {
				return nil, err
			}
			return nil, &changeset.EntryError{Name: string(h.Name), Err: err}
		}
	}
}

// entry does one entry.
func (l *Layer) entry(h *tar.Header, r Archive) error {
	if err := l.admit(h); err != nil {
		return err
	}
	l.nameBuf = changeset.Clean(l.nameBuf, h.Name)
	path := l.nameBuf
	if len(path) == 0 {
		return l.rootEntry(h)
	}
	parentPath, base := changeset.Split(path)
	role, err := changeset.Classify(parentPath, base)
	switch {
	case err != nil:
		return err
	case role == changeset.Hidden:
		return nil
	case role == changeset.Opaque:
		return l.whiteout(victim{dir: string(parentPath)})
	case role == changeset.Whiteout:
		return l.whiteout(victim{dir: string(parentPath), name: string(base[len(changeset.WhiteoutPrefix):])})
	}
	if root := l.root; !root.explicit && root.inode.Sec == 0 && root.inode.Nsec == 0 {
		root.inode.Sec, root.inode.Nsec = timeOf(h)
	}
	parent, err := l.parent(parentPath, h)
	if err != nil {
		return err
	}
	if h.Type == tar.TypeLink {
		return l.hardLink(parent, base, h)
	}
	i := l.inode()
	if err := l.describe(i, h, r); err != nil {
		return err
	}
	if h.Type == tar.TypeDir {
		return l.directory(parent, base, i)
	}
	name, err := l.vacate(parent, base)
	if err != nil {
		return err
	}
	parent.set(name, node{inode: i})
	return nil
}

// admit counts an entry against the limits.
func (l *Layer) admit(h *tar.Header) error {
	if err := changeset.Exceeded("entries", l.entries.Add(1), l.Limits.Entries); err != nil {
		return err
	}
	held := int64(inodeBytes + len(h.Name) + len(h.Linkname))
	for _, x := range h.Xattrs {
		held += int64(len(x.Name) + len(x.Value))
	}
	if err := changeset.Exceeded("bytes of names and attributes", l.held.Add(held), maxHeld); err != nil {
		return err
	}
	if h.Type != tar.TypeReg {
		return nil
	}
	if err := changeset.Exceeded("bytes of a file", h.Size, l.Limits.FileBytes); err != nil {
		return err
	}
	if err := changeset.Exceeded("bytes of files", l.bytes.Add(h.Size), l.Limits.Bytes); err != nil {
		return err
	}
	return changeset.Exceeded("bytes of a layer", h.BodyOffset+Stored(h), l.Limits.LayerBytes(l.blobSize))
}

// Stored is how many bytes of a file its tar has.
func Stored(h *tar.Header) int64 {
	if !h.Sparse {
		return h.Size
	}
	n := int64(0)
	for _, e := range h.Extents {
		n += e.Len
	}
	return n
}

// keep counts something that the merge has to deal with.
func (l *Layer) keep() error {
	return changeset.Exceeded("directories, whiteouts and links to lower layers", l.kept.Add(1), l.Limits.Kept)
}

func (l *Layer) rootEntry(h *tar.Header) error {
	if h.Type != tar.TypeDir {
		return changeset.ErrRoot
	}
	i := l.inode()
	if err := l.describe(i, h, nil); err != nil {
		return err
	}
	l.root.explicit, l.root.inode = true, i
	return nil
}

func (l *Layer) whiteout(v victim) error {
	if err := l.keep(); err != nil {
		return err
	}
	l.whiteouts = append(l.whiteouts, v)
	return nil
}

// vacate makes room for base in parent. A directory that an earlier entry of this
// layer has made is gone then. It returns base as a string.
func (l *Layer) vacate(parent *dir, base []byte) (string, error) {
	if len(base) > maxName {
		return "", unix.ENAMETOOLONG
	}
	if old := parent.names[string(base)].dir; old != nil {
		old.drop()
		l.lastDir = nil
	}
	return string(base), nil
}

const maxName = 255

// slabSize is how many inodes are allocated at a time.
const slabSize = 128

// inodeBytes is about what an entry takes beside its names.
const inodeBytes = 400

func (l *Layer) inode() *erofs.Inode {
	if len(l.slab) == 0 {
		l.slab = make([]erofs.Inode, slabSize)
	}
	i := &l.slab[0]
	l.slab = l.slab[1:]
	return i
}
