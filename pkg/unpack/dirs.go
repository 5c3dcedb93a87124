package unpack

import (
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// dir is a directory of one layer's staged tree. Nobody else writes to that
// tree, so a directory that is not known here does not exist, and no system call
// is needed to find that out.
type dir struct {
	parent *dir // nil for the root
	name   string
	kids   []*dir // may hold some that have left: see live
	depth  int

	// explicit: the layer has an entry of its own for it, which attrs come from.
	// Otherwise it is only there because something lies below it.
	explicit bool
	replaces bool // something that the layer had under the name before
	gone     bool // removed, with all below it
	// implicitBelow: some directory below is not explicit.
	implicitBelow bool
	attrs         attrs
	made          uint32 // the mode it was created with

	fd   int          // O_PATH, or -1
	used bool         // since the clock hand came by
	refs atomic.Int32 // batches that use fd
}

// live tells whether k is still a directory in d.
func (d *dir) live(k *dir) bool { return !k.gone && k.parent == d }

// path is d's place in the tree; empty for the root.
func (d *dir) path() string {
	if d.parent == nil {
		return ""
	}
	var names []string
	for ; d.parent != nil; d = d.parent {
		names = append(names, d.name)
	}
	var b strings.Builder
	for i := len(names) - 1; i >= 0; i-- {
		b.WriteString(names[i])
		if i > 0 {
			b.WriteByte('/')
		}
	}
	return b.String()
}

// join is the path of a name in d.
func (d *dir) join(name string) string {
	if p := d.path(); p != "" {
		return p + "/" + name
	}
	return name
}

type dirKey struct {
	parent *dir
	name   string
}

// dirs is all directories of a staged tree, and descriptors of some of them.
// Only one goroutine uses it; writers give back references.
type dirs struct {
	root  *dir
	known map[dirKey]*dir
	order []*dir // in the order of creation: parents before children

	open    []*dir // those with a descriptor, the root aside
	maxOpen int
	hand    int // of the clock
	nameBuf []byte
}

// maxOpen is how many directories keep a descriptor, in all trees at work. A tar
// goes through a tree depth first, so that few are in use at a time; the rest saves
// opening the big ones again. Processes may be held to 1024 descriptors.
const maxOpen = 576

// newDirs takes over fd, an O_PATH descriptor of an empty directory. Of the
// directories in it, about maxOpen keep descriptors.
func newDirs(fd, maxOpen int) *dirs {
	root := &dir{fd: fd}
	return &dirs{root: root, known: map[dirKey]*dir{}, order: []*dir{root}, maxOpen: maxOpen}
}

func (t *dirs) lookup(parent *dir, name []byte) *dir {
	return t.known[dirKey{parent, string(name)}]
}

// add notes that parent has a new directory.
func (t *dirs) add(parent *dir, name string) *dir {
	d := &dir{parent: parent, name: name, depth: parent.depth + 1, fd: -1}
	t.known[dirKey{parent, name}] = d
	t.order = append(t.order, d)
	parent.kids = append(parent.kids, d)
	return d
}

// drop forgets d, whose directory is no more. What lies below it cannot be
// reached by lookup any longer; finish skips it.
func (t *dirs) drop(d *dir) {
	d.gone = true
	delete(t.known, dirKey{d.parent, d.name})
}

// move makes d a directory of parent, where it has been renamed to.
func (t *dirs) move(d, parent *dir) {
	delete(t.known, dirKey{d.parent, d.name})
	d.parent, d.depth = parent, parent.depth+1
	t.known[dirKey{parent, d.name}] = d
	parent.kids = append(parent.kids, d)
}

// handle returns a descriptor of d, good until the next call unless the caller
// has raised d.refs.
func (t *dirs) handle(d *dir) (int, error) {
	d.used = true
	if d.fd >= 0 {
		return d.fd, nil
	}
	parent, err := t.handle(d.parent)
	if err != nil {
		return -1, err
	}
	t.nameBuf = nul(t.nameBuf, d.name)
	// One component and O_NOFOLLOW: whatever has been swapped for the directory,
	// a link is refused and nothing outside the tree is reached.
	fd, err := openat(parent, t.nameBuf, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return -1, err
	}
	t.evict()
	d.fd = fd
	t.open = append(t.open, d)
	return fd, nil
}

// evict closes a descriptor that has not been used for a while, if too many are
// open. Those that writers hold stay open.
func (t *dirs) evict() {
	for range 2 * len(t.open) {
		if len(t.open) < t.maxOpen {
			return
		}
		t.hand %= len(t.open)
		d := t.open[t.hand]
		if d.used || d.refs.Load() > 0 {
			d.used = false
			t.hand++
			continue
		}
		unix.Close(d.fd)
		d.fd = -1
		last := len(t.open) - 1
		t.open[t.hand] = t.open[last]
		t.open = t.open[:last]
	}
}

// close closes all descriptors. No writer may hold one any more.
func (t *dirs) close() {
	for _, d := range t.open {
		unix.Close(d.fd)
		d.fd = -1
	}
	t.open = nil
	if t.root.fd >= 0 {
		unix.Close(t.root.fd)
		t.root.fd = -1
	}
}
