package unpack

import (
	"errors"

	"golang.org/x/sys/unix"

	"peel/pkg/layers/changeset"
)

// directory makes, or gives new attributes to, a directory that the layer names.
func (s *stage) directory(parent *dir, base []byte, a attrs) error {
	d := s.tree.lookup(parent, base)
	if d == nil {
		if err := s.settled(parent, base); err != nil {
			return err
		}
		var err error
		if d, err = s.mkdir(parent, base, a.real, true); err != nil {
			return err
		}
	}
	d.explicit, d.attrs = true, a
	return nil
}

// parent returns the directory at path, a clean one, and makes what is missing of
// it. What it makes is stamped with the times of the entry it was made for.
func (s *stage) parent(path []byte, of *attrs) (*dir, error) {
	if s.lastDir != nil && string(s.lastPath) == string(path) {
		return s.lastDir, nil
	}
	d, _, err := s.walk(path, of)
	if err != nil {
		return nil, err
	}
	if s.turned { // the next entry may replace a link on the way
		s.lastDir = nil
		return d, nil
	}
	s.lastPath, s.lastDir = append(s.lastPath[:0], path...), d
	return d, nil
}

// walk goes to the directory at path. A link of this layer is followed, in the
// layer's tree as in a chroot. If of is nil, nothing is made: where the layer has
// no such directory, walk returns nil and the path as far as its links resolve it.
func (s *stage) walk(path []byte, of *attrs) (d *dir, resolved string, err error) {
	at, links := s.tree.root, 0
	s.turned = false
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
		if d := s.tree.lookup(at, comp); d != nil {
			at = d
			continue
		}
		if err := s.settled(at, comp); err != nil {
			return nil, "", err
		}
		target, err := s.linkAt(at, comp)
		if err != nil {
			return nil, "", err
		}
		if target != nil {
			s.turned = true
			if links++; links > changeset.MaxLinks {
				return nil, "", unix.ELOOP
			}
			if target[0] == '/' {
				at = s.tree.root
			}
			rest = append(append(target, '/'), rest...)
			continue
		}
		if of == nil {
			return nil, joinPath(at.join(string(comp)), string(changeset.Clean(nil, rest))), nil
		}
		if at, err = s.mkdir(at, comp, changeset.ImplicitMode, false); err != nil {
			return nil, "", err
		}
		at.attrs = s.implicitAttrs(of.times)
		for up := at.parent; up != nil && !up.implicitBelow; up = up.parent {
			up.implicitBelow = true
		}
	}
	return at, "", nil
}

// linkAt returns where the link at name leads, nil if there is none.
func (s *stage) linkAt(d *dir, name []byte) ([]byte, error) {
	fd, err := s.tree.handle(d)
	if err != nil {
		return nil, err
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, string(name), buf)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return buf[:n], nil
}

// mkdir makes a directory where none is known. Anything else that has the name
// goes first. Permission to work in it is always there; the rest of the mode that
// children could inherit (set-gid) or trip over waits for finishDirs.
func (s *stage) mkdir(parent *dir, base []byte, mode uint32, explicit bool) (*dir, error) {
	if err := changeset.Exceeded("directories above a name", int64(parent.depth+1), int64(s.limits.Depth)); err != nil {
		return nil, err
	}
	if err := s.keep(); err != nil {
		return nil, err
	}
	fd, err := s.tree.handle(parent)
	if err != nil {
		return nil, err
	}
	made := mode&0o777 | 0o700
	s.pathBuf = nul(s.pathBuf, string(base))
	err = mkdirat(fd, s.pathBuf, made)
	replaces := err == unix.EEXIST || s.isLinkedLater(parent, base)
	if replaces {
		// An earlier entry of this layer, not a directory, has hidden what lower
		// layers have here. The new directory does not bring that back.
		if err := s.keep(); err != nil {
			return nil, err
		}
		s.hidden = append(s.hidden, victim{dir: parent.path(), name: string(base)})
	}
	if err == unix.EEXIST {
		if err = unlinkat(fd, s.pathBuf, 0); err == nil {
			err = mkdirat(fd, s.pathBuf, made)
		}
	}
	if err != nil {
		return nil, err
	}
	d := s.tree.add(parent, string(base))
	d.explicit, d.replaces, d.made = explicit, replaces, made&^s.caller.umask
	return d, nil
}

// finishDirs gives all directories what had to wait until they were full: their
// times, and what their children must not inherit. Children come before parents.
func (s *stage) finishDirs() error {
	for _, d := range s.tree.order {
		d.gone = d.gone || d.parent != nil && d.parent.gone
	}
	for i := len(s.tree.order) - 1; i >= 0; i-- {
		if d := s.tree.order[i]; !d.gone {
			if err := s.finishDir(d); err != nil {
				return err
			}
		}
	}
	s.tree.order = nil
	return nil
}

func (s *stage) finishDir(d *dir) error {
	a := &d.attrs
	u, g := a.chownWanted(s.caller.uid, s.caller.gid)
	if d.parent != nil && s.caller.owners && a.real == d.made && a.real == a.mode && len(a.xattrs) == 0 && u == noID && g == noID && a.numbered() {
		return s.stamp(d)
	}
	fd, err := s.openDir(d)
	if err == nil {
		err = s.settleDir(fd, &d.attrs, d.path())
		unix.Close(fd)
	}
	return err
}

// settleDir gives a directory of the caller's its final attributes.
func (s *shared) settleDir(fd int, a *attrs, name string) error {
	op, err := settle(s, fd, s.caller.uid, s.caller.gid, ^uint32(0), a, label{name: name})
	return entryError(name, op, err)
}

// stamp sets d's times, again if something has been changed in it.
func (s *stage) stamp(d *dir) error {
	if d.parent == nil {
		fd, err := s.openDir(d)
		if err == nil {
			err = futimens(fd, &d.attrs.times)
			unix.Close(fd)
		}
		return entryError(d.path(), "set times", err)
	}
	fd, err := s.tree.handle(d.parent)
	if err == nil {
		s.pathBuf = nul(s.pathBuf, d.name)
		err = lutimesat(fd, s.pathBuf, &d.attrs.times)
	}
	if err != nil {
		return entryError(d.path(), "set times", err)
	}
	return nil
}

// openDir opens d for reading and for changing its attributes.
func (s *stage) openDir(d *dir) (int, error) {
	at, name := d, "."
	if d.parent != nil {
		at, name = d.parent, d.name
	}
	fd, err := s.tree.handle(at)
	if err == nil {
		s.pathBuf = nul(s.pathBuf, name)
		fd, err = openat(fd, s.pathBuf, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	}
	return fd, entryError(d.path(), "open", err)
}

// entryError names the entry in err, unless it is nil or knows it already.
func entryError(name, op string, err error) error {
	if e := (*EntryError)(nil); err == nil || errors.As(err, &e) {
		return err
	}
	if name == "" {
		name = "/"
	}
	return &EntryError{Name: name, Op: op, Err: err}
}
