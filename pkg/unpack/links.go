package unpack

import (
	"errors"

	"golang.org/x/sys/unix"

	"peel/pkg/layers/tar"
)

// lowerLink is a hard link to something that the layer does not have: it waits
// until the layers below are there.
type lowerLink struct {
	dir    *dir
	name   string
	target string // clean
}

// hardLink makes base in parent a second name of an earlier entry of this layer,
// or keeps it for linkLower.
func (s *stage) hardLink(parent *dir, base []byte, h *tar.Header) error {
	s.linkBuf = clean(s.linkBuf, h.Linkname)
	target := s.linkBuf
	if len(target) == 0 {
		return ErrLinkToDirectory
	}
	targetPath, targetBase := split(target)
	if role, err := classify(targetPath, targetBase); err != nil || role != plain {
		return ErrNoTarget // a name that no layer can make
	}
	from, err := s.walk(targetPath, nil)
	if err != nil {
		return err
	}
	if from == parent && string(targetBase) == string(base) {
		return s.linkToItself(parent, base, target)
	}
	if from != nil {
		if s.tree.lookup(from, targetBase) != nil {
			return ErrLinkToDirectory
		}
		if err := s.settled(from, targetBase); err != nil {
			return err
		}
	}
	if err := s.vacate(parent, base); err != nil {
		return err
	}
	if err := s.settled(parent, base); err != nil {
		return err
	}
	if from == nil {
		return s.linkLater(parent, base, string(target))
	}
	fromFd, err := s.tree.handle(from)
	if err != nil {
		return err
	}
	from.refs.Add(1) // the next handle must not close it
	defer from.refs.Add(-1)
	toFd, err := s.tree.handle(parent)
	if err != nil {
		return err
	}
	fromName, toName := nul(nil, string(targetBase)), nul(nil, string(base))
	err = again(toFd, toName, func() error { return linkat(fromFd, fromName, toFd, toName) })
	if err == unix.ENOENT {
		return s.linkLater(parent, base, string(target))
	}
	if err != nil {
		return &EntryError{Name: string(h.Name), Op: "link", Err: err}
	}
	return nil
}

// linkToItself changes nothing, if there is something to be a name of.
func (s *stage) linkToItself(parent *dir, base, target []byte) error {
	if s.tree.lookup(parent, base) != nil {
		return ErrLinkToDirectory
	}
	if err := s.settled(parent, base); err != nil {
		return err
	}
	fd, err := s.tree.handle(parent)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	err = unix.Fstatat(fd, string(base), &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return s.linkLater(parent, base, string(target))
	}
	return err
}

// linkLater keeps a link for linkLower. What the layer had under its name is
// replaced by it now. A link to a kept link is one to that one's target.
func (s *stage) linkLater(parent *dir, base []byte, target string) error {
	if err := s.keep(); err != nil {
		return err
	}
	fd, err := s.tree.handle(parent)
	if err != nil {
		return err
	}
	if err := removeAt(fd, string(base)); err != nil {
		return err
	}
	if s.linkedTo == nil {
		s.linkedTo = map[string]string{}
	}
	if further, ok := s.linkedTo[target]; ok {
		target = further
	}
	s.linkedTo[parent.join(string(base))] = target
	s.links = append(s.links, lowerLink{dir: parent, name: string(base), target: target})
	return nil
}
