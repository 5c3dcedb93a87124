// Package merge applies the layers of an image to a tree in memory.
//
// Each layer's entries become a tree of their own while its tar streams by (Read);
// then the trees are laid one over the other by moving names (Merge). Nothing is
// created and no byte of a file is looked at: the tree says where in the layer's
// tar, a Device of package erofs, a file's bytes lie.
//
//	tar 0 ─ Read ─ Layer ──┐
//	tar 1 ─ Read ─ Layer ─ Merge ─ the root, for erofs.WriteIndex
//	tar 2 ─ Read ─ Layer ──┘
//
// The rules are those of package changeset, and the outcome is what package unpack
// makes files of: the tests there compare the two.
package merge

import (
	"strings"

	"peel/pkg/erofs"
	"peel/pkg/layers/changeset"
)

// Types in erofs.Inode.Mode.
const (
	typeMask    = 0o170000
	typeFifo    = 0o010000
	typeChar    = 0o020000
	typeDir     = 0o040000
	typeBlock   = 0o060000
	typeRegular = 0o100000
	typeSymlink = 0o120000
)

// node is what a name stands for. Hard links are nodes with one inode.
type node struct {
	inode *erofs.Inode
	dir   *dir // nil if it is none
}

func (n node) isLink() bool { return n.inode != nil && n.inode.Mode&typeMask == typeSymlink }

// dir is a directory of a layer's tree, and later of the merged one.
type dir struct {
	inode  *erofs.Inode
	parent *dir // nil for the root
	name   string
	names  map[string]node
	kids   []*dir // may hold some that have left: see live
	depth  int

	// explicit: the layer has an entry of its own for it. Otherwise it is only there
	// because something lies below it.
	explicit      bool
	replaces      bool // something that the layer had under the name before
	gone          bool // removed, with all below it
	implicitBelow bool // some directory below is not explicit
}

// live tells whether k is still a directory in d.
func (d *dir) live(k *dir) bool { return !k.gone && k.parent == d }

// removed tells whether d or a directory that it lies in has been removed.
func (d *dir) removed() bool {
	for ; d != nil; d = d.parent {
		if d.gone {
			return true
		}
	}
	return false
}

// path is d's place in the tree; empty for the root.
func (d *dir) path() string {
	if d.parent == nil {
		return ""
	}
	return d.parent.join(d.name)
}

// join is the path of a name in d.
func (d *dir) join(name string) string { return joinPath(d.path(), name) }

func joinPath(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// set gives n the name, whatever had it before.
func (d *dir) set(name string, n node) {
	if d.names == nil {
		d.names = map[string]node{}
	}
	d.names[name] = n
}

// drop takes a directory out of the tree, with all below it.
func (d *dir) drop() {
	d.gone = true
	delete(d.parent.names, d.name)
}

// move makes d a directory of parent.
func (d *dir) move(parent *dir) {
	delete(d.parent.names, d.name)
	d.parent, d.depth = parent, parent.depth+1
	parent.set(d.name, node{d.inode, d})
	parent.kids = append(parent.kids, d)
}

// Merge lays layers one over the other, from the bottom up, and returns the root of
// what comes out. The trees of the layers are used up. An error is about the layer
// whose index is returned too.
//
// Files lie on device i+1 if they came with layers[i]. Those that are sparse lie on
// devices of their own, which follow, one for each layer that has such files: Sparse
// tells which layers those are.
func Merge(layers []*Layer) (root *erofs.Inode, layer int, err error) {
	if len(layers) == 0 {
		return &erofs.Inode{Mode: typeDir | changeset.ImplicitMode}, 0, nil
	}
	device := len(layers)
	for _, l := range layers {
		if len(l.sparse) > 0 {
			device++
		}
		for _, i := range l.sparse {
			i.Device = device
		}
	}
	for _, l := range layers[0].links {
		return nil, 0, &changeset.EntryError{Name: l.name, Op: "link", Err: changeset.ErrNoTarget}
	}
	m := &merger{root: layers[0].root}
	for i, l := range layers[1:] {
		if err := m.add(l); err != nil {
			return nil, i + 1, err
		}
	}
	return entries(m.root), 0, nil
}

// Sparse returns the indexes of the layers that have sparse files.
func Sparse(layers []*Layer) (list []int) {
	for i, l := range layers {
		if len(l.sparse) > 0 {
			list = append(list, i)
		}
	}
	return list
}

// entries fills in the entries of all directories. What is left to the writer is to
// sort them.
func entries(d *dir) *erofs.Inode {
	d.inode.Entries = make([]erofs.Dirent, 0, len(d.names))
	for name, n := range d.names {
		if n.dir != nil {
			entries(n.dir)
		}
		d.inode.Entries = append(d.inode.Entries, erofs.Dirent{Name: name, Inode: n.inode})
	}
	return d.inode
}

// merger lays layers over root.
type merger struct{ root *dir }

// add lays l over the result.
func (m *merger) add(l *Layer) error {
	if err := m.linkLower(l); err != nil {
		return err
	}
	for _, v := range append(l.whiteouts, l.hidden...) {
		if d := m.canonical(l, v.dir); d != nil && v.name == "" {
			clear(d.names)
		} else if d != nil {
			delete(d.names, v.name)
		}
	}
	if l.root.implicitBelow {
		a := &aligner{m, l}
		if err := a.below(l.root); err != nil {
			return err
		}
	}
	overlay(l.root, m.root)
	return nil
}

// overlay moves what is in from into to.
func overlay(from, to *dir) {
	for name, n := range from.names {
		if old := to.names[name]; old.dir != nil && n.dir != nil {
			overlay(n.dir, old.dir)
			continue
		}
		if n.dir != nil {
			n.dir.parent = to
		}
		to.set(name, n)
	}
	if from.explicit {
		from.inode.Entries = nil
		to.inode = from.inode
		if to.parent != nil {
			to.parent.set(to.name, node{to.inode, to})
		}
	}
}

// lookup is what the result has at a clean path, no link followed. Below a link
// there is nothing.
func (m *merger) lookup(path string) node {
	at := node{m.root.inode, m.root}
	for path != "" {
		var comp string
		comp, path, _ = strings.Cut(path, "/")
		if at.dir == nil {
			return node{}
		}
		at = at.dir.names[comp]
	}
	return at
}
