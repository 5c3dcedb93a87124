package merge

import (
	"golang.org/x/sys/unix"

	"peel/pkg/erofs"
	"peel/pkg/layers/changeset"
	"peel/pkg/layers/tar"
)

// directory makes, or gives new attributes to, a directory that the layer names.
func (l *Layer) directory(parent *dir, base []byte, i *erofs.Inode) error {
	d := parent.names[string(base)].dir
	if d == nil {
		var err error
		if d, err = l.mkdir(parent, string(base), i); err != nil {
			return err
		}
	}
	d.explicit, d.inode = true, i
	parent.set(d.name, node{i, d})
	return nil
}

// parent returns the directory at path, a clean one, and makes what is missing of
// it. What it makes has the time of the entry that it was made for.
func (l *Layer) parent(path []byte, of *tar.Header) (*dir, error) {
	if l.lastDir != nil && string(l.lastPath) == string(path) {
		return l.lastDir, nil
	}
	d, _, err := l.walk(path, of)
	if err != nil {
		return nil, err
	}
	if l.turned { // the next entry may replace a link on the way
		l.lastDir = nil
		return d, nil
	}
	l.lastPath, l.lastDir = append(l.lastPath[:0], path...), d
	return d, nil
}

// walk goes to the directory at path. A link of this layer is followed, in the
// layer's tree as in a chroot. If of is nil, nothing is made: where the layer has
// no such directory, walk returns nil and the path as far as its links resolve it.
func (l *Layer) walk(path []byte, of *tar.Header) (d *dir, resolved string, err error) {
	at, links := l.root, 0
	l.turned = false
	for rest := path; len(rest) > 0; {
		var comp []byte
		comp, rest = changeset.Cut(rest)
		switch {
		case len(comp) == 0 || string(comp) == ".":
			continue
		case string(comp) == "..":
			if at.parent != nil {
				at = at.parent
			}
			continue
		}
		n := at.names[string(comp)]
		if n.dir != nil {
			at = n.dir
			continue
		}
		if n.isLink() {
			l.turned = true
			if links++; links > changeset.MaxLinks {
				return nil, "", unix.ELOOP
			}
			target := n.inode.Target
			if target[0] == '/' {
				at = l.root
			}
			rest = append([]byte(target+"/"), rest...)
			continue
		}
		if of == nil {
			return nil, joinPath(at.join(string(comp)), string(changeset.Clean(nil, rest))), nil
		}
		if at, err = l.mkdirImplicit(at, string(comp), timesOf(of)); err != nil {
			return nil, "", err
		}
	}
	return at, "", nil
}

// mkdirImplicit makes a directory that no entry names.
func (l *Layer) mkdirImplicit(parent *dir, base string, t times) (*dir, error) {
	i := l.inode()
	i.Mode, i.Sec, i.Nsec = typeDir|changeset.ImplicitMode, t.sec, t.nsec
	d, err := l.mkdir(parent, base, i)
	for up := parent; err == nil && up != nil && !up.implicitBelow; up = up.parent {
		up.implicitBelow = true
	}
	return d, err
}

// mkdir makes a directory where none is. Anything else that has the name goes.
func (l *Layer) mkdir(parent *dir, base string, i *erofs.Inode) (*dir, error) {
	if len(base) > maxName {
		return nil, unix.ENAMETOOLONG
	}
	if err := changeset.Exceeded("directories above a name", int64(parent.depth+1), int64(l.Limits.Depth)); err != nil {
		return nil, err
	}
	if err := l.keep(); err != nil {
		return nil, err
	}
	_, replaces := parent.names[base]
	if len(l.linkedTo) > 0 && !replaces {
		_, replaces = l.linkedTo[parent.join(base)]
	}
	if replaces {
		// An earlier entry of this layer, not a directory, has hidden what lower
		// layers have here. The new directory does not bring that back.
		if err := l.keep(); err != nil {
			return nil, err
		}
		l.hidden = append(l.hidden, victim{dir: parent.path(), name: base})
	}
	d := &dir{inode: i, parent: parent, name: base, depth: parent.depth + 1, replaces: replaces}
	parent.set(base, node{i, d})
	parent.kids = append(parent.kids, d)
	return d, nil
}

// at is the layer's own directory at a clean path, no link followed, or nil.
func (l *Layer) at(path []byte) *dir {
	d := l.root
	for rest := path; len(rest) > 0 && d != nil; {
		var comp []byte
		comp, rest = changeset.Cut(rest)
		d = d.names[string(comp)].dir
	}
	return d
}

// own returns what the layer itself says is at path: by an entry, not only by one
// that lies below.
func (l *Layer) own(path string) (n node, ok bool) {
	parent, base := changeset.Split([]byte(path))
	d := l.at(parent)
	if d == nil {
		return node{}, false
	}
	n, ok = d.names[string(base)]
	if n.dir != nil {
		ok = n.dir.explicit || n.dir.replaces
	}
	return n, ok
}
