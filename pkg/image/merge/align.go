package merge

import (
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"peel/pkg/layers/changeset"
)

// aligner moves what the layer has below a directory without an entry of its own to
// where that name leads in the result, if it is a link there: over a base where
// bin is a link to usr/bin, the file bin/tool belongs in usr/bin, and the link
// stays. Where the layer has something at both places, what it has under the
// canonical name wins.
//
// Afterwards no such directory stands in the place of a link.
type aligner struct {
	*merger
	l *Layer
}

// below aligns all directories in d, whose own path is canonical.
func (a *aligner) below(d *dir) error {
	for i := 0; i < len(d.kids); i++ { // kids may grow meanwhile
		if k := d.kids[i]; d.live(k) {
			if err := a.one(k); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *aligner) one(d *dir) error {
	if d.explicit && !d.implicitBelow {
		return nil
	}
	switch n := a.lookup(d.path()); {
	case n.dir != nil:
		return a.below(d)
	case n.isLink() && !d.explicit:
		if err := a.relocate(d); err != nil {
			return &changeset.EntryError{Name: d.path(), Op: "merge", Err: err}
		}
	}
	return nil // new, or it replaces what is there, with all below it
}

// relocate moves what is in d to where the result's link at d leads.
func (a *aligner) relocate(d *dir) error {
	path, err := a.target(d.path())
	if err != nil {
		return err
	}
	dest, err := a.makeAll(path, times{d.inode.Sec, d.inode.Nsec})
	if err != nil {
		return err
	}
	if dest != nil {
		if err := a.moveInto(d, dest); err != nil {
			return err
		}
	}
	d.drop()
	return nil
}

// target is the canonical path that the link at path leads to, the tail that does
// not exist included.
func (a *aligner) target(path string) (string, error) {
	at, links := "", 0
	for path != "" {
		var comp string
		comp, path, _ = strings.Cut(path, "/")
		switch comp {
		case "", ".":
			continue
		case "..":
			at = at[:max(0, strings.LastIndexByte(at, '/'))]
			continue
		}
		next := joinPath(at, comp)
		n, own := a.l.own(next)
		if !own {
			n = a.lookup(next)
		}
		if !n.isLink() {
			at = next
			continue
		}
		if links++; links > changeset.MaxLinks {
			return "", unix.ELOOP
		}
		if n.inode.Target[0] == '/' {
			at = ""
		}
		path = n.inode.Target + "/" + path
	}
	return at, nil
}

// makeAll returns the layer's directory at path, made if need be; nil if the layer
// has something else in its way.
func (a *aligner) makeAll(path string, t times) (*dir, error) {
	at := a.l.root
	for path != "" {
		var comp string
		comp, path, _ = strings.Cut(path, "/")
		n, taken := at.names[comp]
		if n.dir != nil {
			at = n.dir
			continue
		}
		if taken {
			return nil, nil
		}
		i := a.l.inode()
		i.Mode, i.Sec, i.Nsec = typeDir|changeset.ImplicitMode, t.sec, t.nsec
		d, err := a.l.mkdir(at, comp, i)
		if err != nil {
			return nil, err
		}
		at = d
	}
	return at, nil
}

// moveInto moves what is in src into dest.
func (a *aligner) moveInto(src, dest *dir) error {
	for _, name := range slices.Sorted(maps.Keys(src.names)) {
		n := src.names[name]
		old, taken := dest.names[name]
		switch {
		case !taken && n.dir != nil:
			n.dir.move(dest)
			if err := a.one(n.dir); err != nil {
				return err
			}
			continue
		case !taken:
			dest.set(name, n)
			delete(src.names, name)
			continue
		case n.dir == nil || old.dir == nil:
			continue
		}
		if n.dir.explicit && !old.dir.explicit {
			old.dir.explicit, old.dir.inode = true, n.dir.inode
			dest.set(name, node{old.dir.inode, old.dir})
		}
		if err := a.moveInto(n.dir, old.dir); err != nil {
			return err
		}
		n.dir.drop()
	}
	return nil
}
