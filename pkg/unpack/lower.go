package unpack

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"peel/pkg/layers/changeset"
)

// This file is about the places in which layers are not independent of those
// below. Such places are few: what is slow here is slow a handful of times.

// whiteout removes v from the result.
func (m *merger) whiteout(s *stage, v victim) error {
	dir, err := m.canonical(s, v.dir)
	if dir == nil || err != nil {
		return err
	}
	err = m.touched(*dir, func(fd int) error {
		if v.name == "" {
			return eachEntry(fd, func(e dirent) error { return m.discard(fd, e.text(), e.typ) })
		}
		typ, err := typeAt(fd, v.name)
		if err != nil {
			return err
		}
		return m.discard(fd, v.name, typ)
	})
	if errors.Is(err, unix.ENOENT) {
		return nil // whiteout of nothing
	}
	return err
}

// canonical is the directory of the result that path leads to, as a path without
// links; nil if there is none. Links are followed in the result as in a chroot,
// but not where s has an entry of its own: `bin/` in s over the link bin below is
// a new directory, in which nothing is to be whited out.
func (m *merger) canonical(s *stage, path string) (*string, error) {
	// Nearly always there is no link on the way, and one call tells.
	if f, err := m.openResult(path); err == nil {
		f.Close()
		return &path, nil
	}
	at, links := "", 0
	for rest := path; rest != ""; {
		var comp string
		comp, rest, _ = strings.Cut(rest, "/")
		switch comp {
		case "", ".":
			continue
		case "..":
			at = at[:max(0, strings.LastIndexByte(at, '/'))]
			continue
		}
		next := joinPath(at, comp)
		typ, target, err := m.lstat(next)
		switch {
		case err != nil:
			return nil, err
		case typ == unix.S_IFDIR:
			at = next
			continue
		case typ != unix.S_IFLNK:
			return nil, nil
		}
		own, err := s.has(next)
		if own || err != nil {
			return nil, err
		}
		if links++; links > changeset.MaxLinks {
			return nil, nil
		}
		if strings.HasPrefix(target, "/") {
			at = ""
		}
		rest = target + "/" + rest
	}
	return &at, nil
}

func joinPath(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// lstat returns the type of what the result has at path, 0 for nothing, and where
// it leads if it is a link. Below a link there is nothing: path is canonical.
func (m *merger) lstat(path string) (typ uint32, target string, err error) {
	f, err := m.root.Open(path, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return 0, "", nil
	}
	if err != nil {
		return 0, "", err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, "", err
	}
	typ = st.Mode & unix.S_IFMT
	if typ == unix.S_IFLNK {
		target, err = m.root.Readlink(path)
	}
	return typ, target, err
}

// has tells whether the layer itself says what is at path: by an entry, not only
// by one that lies below.
func (s *stage) has(path string) (bool, error) {
	parent, base := changeset.Split([]byte(path))
	d := s.known(parent)
	if d == nil {
		return false, nil
	}
	if sub := s.tree.lookup(d, base); sub != nil {
		return sub.explicit || sub.replaces, nil
	}
	fd, err := s.tree.handle(d)
	if err != nil {
		return false, err
	}
	_, err = typeAt(fd, string(base))
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil, err
}

// known is the layer's own directory at a clean path, no link followed, or nil.
func (s *stage) known(path []byte) *dir {
	at := s.tree.root
	for rest := path; len(rest) > 0 && at != nil; {
		var comp []byte
		comp, rest = changeset.Cut(rest)
		at = s.tree.lookup(at, comp)
	}
	return at
}

// linkLower gives the hard links that waited their target in the result, before
// anything of this layer changes it: what they mean is what is below. They are
// made in the layer's tree, and move with it.
func (m *merger) linkLower(s *stage) error {
	for _, l := range s.links {
		if err := m.linkOne(s, l); err != nil {
			return entryError(l.name, "link", err)
		}
		if l.dir.gone {
			continue
		}
		if err := s.stamp(l.dir); err != nil {
			return err
		}
	}
	return nil
}

func (m *merger) linkOne(s *stage, l lowerLink) error {
	parent, base := changeset.Split([]byte(l.target))
	from, err := m.root.Follow("/"+string(parent), unix.O_PATH|unix.O_DIRECTORY, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return ErrNoTarget
	}
	if err != nil {
		return err
	}
	defer from.Close()
	typ, err := typeAt(int(from.Fd()), string(base))
	switch {
	case errors.Is(err, unix.ENOENT):
		return ErrNoTarget
	case err != nil:
		return err
	case typ == unix.DT_DIR:
		return ErrLinkToDirectory
	case l.dir.gone || l.replaced:
		return nil
	}
	to, err := s.tree.handle(l.dir)
	if err != nil {
		return err
	}
	err = unix.Linkat(int(from.Fd()), string(base), to, l.base, 0)
	if errors.Is(err, unix.EEXIST) {
		return nil // by a later entry of the layer, which counts
	}
	return err
}
