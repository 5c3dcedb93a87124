package unpack

import (
	"errors"

	"golang.org/x/sys/unix"

	"peel/pkg/layers/changeset"
)

// align moves what the layer has below a directory without an entry of its own to
// where that name leads in the result, if it is a link there: over a base where
// bin is a link to usr/bin, the file bin/tool belongs in usr/bin, and the link
// stays. Where the layer has something at both places, what it has under the
// canonical name wins.
//
// Afterwards no such directory stands in the place of a link.
func (m *merger) align(s *stage) error {
	if !s.tree.root.implicitBelow {
		return nil
	}
	a := &aligner{merger: m, s: s, changed: map[*dir]bool{}}
	if err := a.below(s.tree.root); err != nil {
		return err
	}
	for d := range a.changed {
		if d.gone {
			continue
		}
		if err := s.stamp(d); err != nil {
			return err
		}
	}
	return nil
}

type aligner struct {
	*merger
	s       *stage
	changed map[*dir]bool // whose times are to be set again
}

// below aligns all directories in d, whose own path is canonical.
func (a *aligner) below(d *dir) error {
	for i := 0; i < len(d.kids); i++ { // kids may grow meanwhile
		if k := d.kids[i]; d.live(k) {
			if err := a.one(k); err != nil {
				return entryError(k.path(), "merge", err)
			}
		}
	}
	return nil
}

func (a *aligner) one(d *dir) error {
	if d.explicit && !d.implicitBelow {
		return nil
	}
	typ, _, err := a.lstat(d.path())
	switch {
	case err != nil:
		return err
	case typ == unix.S_IFDIR:
		return a.below(d)
	case typ == unix.S_IFLNK && !d.explicit:
		return a.relocate(d)
	}
	return nil // new, or it replaces what is there, with all below it
}

// relocate moves what is in d to where the result's link at d leads.
func (a *aligner) relocate(d *dir) error {
	path, err := a.target(d.path())
	if err != nil {
		return err
	}
	dest, err := a.makeAll(path, d.attrs.times)
	if err != nil {
		return err
	}
	parent := d.parent
	if dest != nil {
		if err := a.moveInto(d, dest); err != nil {
			return err
		}
	}
	return a.remove(d, parent)
}

// target is the canonical path that the link at path leads to, the tail that does
// not exist included.
func (a *aligner) target(path string) ([]byte, error) {
	var at []byte
	links := 0
	for rest := []byte(path); len(rest) > 0; {
		var comp []byte
		comp, rest = changeset.Cut(rest)
		switch {
		case len(comp) == 0 || string(comp) == ".":
			continue
		case string(comp) == "..":
			at, _ = changeset.Split(at)
			continue
		}
		next := []byte(joinPath(string(at), string(comp)))
		target, err := a.linkTo(string(next))
		if err != nil {
			return nil, err
		}
		if target == "" {
			at = next
			continue
		}
		if links++; links > changeset.MaxLinks {
			return nil, unix.ELOOP
		}
		if target[0] == '/' {
			at = nil
		}
		rest = append([]byte(target+"/"), rest...)
	}
	return at, nil
}

// linkTo is where the link at path leads, in the layer if that has an entry for
// it, else in the result; empty if there is no link.
func (a *aligner) linkTo(path string) (string, error) {
	own, err := a.s.has(path)
	if err != nil {
		return "", err
	}
	if own {
		parent, base := changeset.Split([]byte(path))
		target, err := a.s.linkAt(a.s.known(parent), base)
		return string(target), err
	}
	_, target, err := a.lstat(path)
	return target, err
}

// makeAll returns the layer's directory at path, made if need be; nil if the layer
// has something else in its way.
func (a *aligner) makeAll(path []byte, times [2]unix.Timespec) (*dir, error) {
	at := a.s.tree.root
	for rest := path; len(rest) > 0; {
		var comp []byte
		comp, rest = changeset.Cut(rest)
		if d := a.s.tree.lookup(at, comp); d != nil {
			at = d
			continue
		}
		fd, err := a.s.tree.handle(at)
		if err != nil {
			return nil, err
		}
		if _, err := typeAt(fd, string(comp)); !errors.Is(err, unix.ENOENT) {
			return nil, err
		}
		d, err := a.s.mkdir(at, comp, changeset.ImplicitMode, false)
		if err != nil {
			return nil, err
		}
		d.attrs = a.s.implicitAttrs(times)
		// Its parent is finished, and may have handed down what finishDirs gave it.
		if sub, err := a.s.openDir(d); err == nil {
			err = errors.Join(removeXattrs(sub), unix.Fchown(sub, int(a.caller.uid), int(a.caller.gid)))
			if err == nil {
				err = a.quiet.settleDir(sub, &d.attrs, d.path())
			}
			unix.Close(sub)
			if err != nil {
				return nil, err
			}
		}
		a.changed[at], a.changed[d] = true, true
		at = d
	}
	return at, nil
}

// moveInto moves what is in src into dest.
func (a *aligner) moveInto(src, dest *dir) error {
	from, err := a.s.openDir(src)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	to, err := a.s.openDir(dest)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	a.changed[dest] = true
	return eachEntry(from, func(e dirent) error {
		name := e.text()
		var sub *dir
		if e.typ == unix.DT_DIR {
			sub = a.s.tree.known[dirKey{src, name}]
		}
		err := renameNoReplace(from, name, to, name)
		switch {
		case err == nil && sub != nil:
			a.s.tree.move(sub, dest)
			return a.one(sub)
		case !errors.Is(err, unix.EEXIST) || sub == nil:
			if errors.Is(err, unix.EEXIST) {
				return nil
			}
			return err
		}
		same := a.s.tree.known[dirKey{dest, name}]
		if same == nil {
			return nil
		}
		if sub.explicit && !same.explicit {
			// It has an entry after all. The attributes follow when they merge, or now.
			same.explicit, same.attrs, same.made = true, sub.attrs, sub.made
			if err := a.dressAs(same); err != nil {
				return err
			}
		}
		if err := a.moveInto(sub, same); err != nil {
			return err
		}
		return a.remove(sub, src)
	})
}

// dressAs gives d's directory the attributes that it now has an entry for.
func (a *aligner) dressAs(d *dir) error {
	fd, err := a.s.openDir(d)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return a.s.settleDir(fd, &d.attrs, d.path())
}

// remove removes d, which has been emptied of all that counts.
func (a *aligner) remove(d, parent *dir) error {
	fd, err := a.s.tree.handle(parent)
	if err != nil {
		return err
	}
	a.s.tree.drop(d)
	a.changed[parent] = true
	return removeAt(fd, d.name)
}
