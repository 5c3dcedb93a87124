package unpack

import (
	"context"
	"errors"
	"hash/maphash"
	"io"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"peel/pkg/layers/changeset"
	"peel/pkg/layers/tar"
)

// stage turns one layer's tar into a tree of its own: the layer's entries and
// nothing else, in a directory that was empty. What the entries say about other
// layers is kept for the merge: whiteouts, and hard links to what is not here.
//
// One goroutine reads the tar and knows all directories (dirs). It makes those
// itself, and hands the rest to the writers in batches.
type stage struct {
	*shared
	tree *dirs

	cur     *batch // being filled, or nil
	pending sync.WaitGroup
	// recent is the names handed to writers since the last barrier, as hashes.
	recent map[uint64]struct{}
	seed   maphash.Seed

	broken atomic.Bool // read without mu
	mu     sync.Mutex
	err    error // the first one

	whiteouts                 []victim
	hidden                    []victim // what entries hid that have been replaced themselves since
	links                     []lowerLink
	linkedTo                  map[string]int // the last of links with that path
	nameBuf, linkBuf, pathBuf []byte
	lastPath                  []byte // a parent as spelled, and what it led to
	lastDir                   *dir
	turned                    bool // the last walk followed a link
	blobSize                  int64
}

// shared is what all stages of an image share.
type shared struct {
	caller    *caller
	limits    Limits
	losses    *changeset.Losses
	pool      *pool
	maxOpen   int  // descriptors of directories, for each stage
	dropSetID bool // see Options.DropSetID

	entries, bytes, kept atomic.Int64 // so far, of all layers
}

// victim is a whiteout: name in dir, or all of dir where name is empty.
type victim struct{ dir, name string }

// newStage takes over fd, an O_PATH descriptor of an empty directory.
func newStage(j *shared, fd int, blobSize int64) *stage {
	s := &stage{
		shared:   j,
		tree:     newDirs(fd, j.maxOpen),
		recent:   map[uint64]struct{}{},
		seed:     maphash.MakeSeed(),
		blobSize: blobSize,
	}
	// What the root is unless an entry tells. Its times will be the first entry's.
	s.tree.root.attrs = j.implicitAttrs([2]unix.Timespec{})
	return s
}

// run makes the tree. When it returns, no writer has anything of it any more.
func (s *stage) run(ctx context.Context, r *tar.Reader) error {
	err := s.read(ctx, r)
	if err != nil {
		s.fail(err)
	}
	s.flush()
	s.pending.Wait()
	if s.failed() {
		return s.err
	}
	return s.finishDirs()
}

func (s *stage) read(ctx context.Context, r *tar.Reader) error {
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if s.failed() {
			return s.err
		}
		if err := s.entry(h, r); err != nil {
			if e := (*EntryError)(nil); errors.As(err, &e) {
				return err
			}
			if e := (*tar.Error)(nil); errors.As(err, &e) {
				return err
			}
			return &EntryError{Name: string(h.Name), Err: err}
		}
	}
}

// entry does one entry. An error that is neither *EntryError nor *tar.Error is
// about the entry at hand.
func (s *stage) entry(h *tar.Header, r *tar.Reader) error {
	if err := s.admit(h); err != nil {
		return err
	}
	s.nameBuf = changeset.Clean(s.nameBuf, h.Name)
	path := s.nameBuf
	if len(path) == 0 {
		return s.rootEntry(h)
	}
	parentPath, base := changeset.Split(path)
	role, err := changeset.Classify(parentPath, base)
	switch {
	case err != nil:
		return err
	case role == changeset.Hidden:
		return nil
	case role == changeset.Opaque:
		return s.whiteout(victim{dir: string(parentPath)})
	case role == changeset.Whiteout:
		return s.whiteout(victim{dir: string(parentPath), name: string(base[len(changeset.WhiteoutPrefix):])})
	}

	a := s.attrsOf(h)
	if a.xattrs, err = s.copyXattrs(h); err != nil {
		return err
	}
	if root := s.tree.root; !root.explicit && root.attrs.times == [2]unix.Timespec{} {
		root.attrs.times = a.times
	}
	parent, err := s.parent(parentPath, &a)
	if err != nil {
		return err
	}
	switch h.Type {
	case tar.TypeDir:
		return s.directory(parent, base, a)
	case tar.TypeReg:
		return s.file(parent, base, a, h, r)
	case tar.TypeLink:
		return s.hardLink(parent, base, h)
	case tar.TypeSymlink:
		return s.special(job{kind: makeSymlink, attrs: a}, parent, base, h.Linkname)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return s.special(job{kind: makeNode, attrs: a}, parent, base, nil)
	}
	return ErrType
}

// admit counts an entry against the limits.
func (s *stage) admit(h *tar.Header) error {
	if err := changeset.Exceeded("entries", s.entries.Add(1), s.limits.Entries); err != nil {
		return err
	}
	if h.Type != tar.TypeReg {
		return nil
	}
	if err := changeset.Exceeded("bytes of a file", h.Size, s.limits.FileBytes); err != nil {
		return err
	}
	if err := changeset.Exceeded("bytes of files", s.bytes.Add(h.Size), s.limits.Bytes); err != nil {
		return err
	}
	stored := h.Size
	if h.Sparse {
		stored = 0
		for _, e := range h.Extents {
			stored += e.Len
		}
	}
	return changeset.Exceeded("bytes of a layer", h.BodyOffset+stored, max(changeset.RatioFloor, s.limits.Ratio*s.blobSize))
}

// keep counts something that stays in memory until the merge.
func (s *stage) keep() error {
	return changeset.Exceeded("directories, whiteouts and links to lower layers", s.kept.Add(1), s.limits.Kept)
}

func (s *stage) rootEntry(h *tar.Header) error {
	if h.Type != tar.TypeDir {
		return ErrRoot
	}
	a := s.attrsOf(h)
	var err error
	a.xattrs, err = s.copyXattrs(h)
	s.tree.root.explicit, s.tree.root.attrs = true, a
	return err
}

func (s *stage) whiteout(v victim) error {
	if err := s.keep(); err != nil {
		return err
	}
	s.whiteouts = append(s.whiteouts, v)
	return nil
}
