package unpack

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"peel/pkg/layers/changeset"
	"peel/pkg/layers/tar"
)

// lowerLink is a hard link to something that the layer does not have: it waits
// until the layers below are there.
type lowerLink struct {
	dir    *dir
	base   string
	name   string // as the layer spells it
	target string // clean
	// replaced: the layer gives the name to something else later on. The target must
	// be there all the same.
	replaced bool
}

// hardLink makes base in parent a second name of an earlier entry of this layer,
// or keeps it for linkLower.
func (s *stage) hardLink(parent *dir, base []byte, h *tar.Header) error {
	s.linkBuf = changeset.Clean(s.linkBuf, h.Linkname)
	target := s.linkBuf
	if len(target) == 0 {
		return ErrLinkToDirectory
	}
	targetPath, targetBase := changeset.Split(target)
	if role, err := changeset.Classify(targetPath, targetBase); err != nil || role != changeset.Plain {
		return ErrNoTarget // a name that no layer can make
	}
	from, lowerPath, err := s.walk(targetPath, nil)
	if err != nil {
		return err
	}
	if from != nil {
		lowerPath = from.path()
	}
	lower := joinPath(lowerPath, string(targetBase))
	if strings.HasPrefix(lower, parent.join(string(base))+"/") {
		return ErrNoTarget // it is below the link's own name, which the link replaces
	}
	if from == parent && string(targetBase) == string(base) {
		return s.linkToItself(parent, base, string(h.Name), lower)
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
		return s.linkLater(parent, base, string(h.Name), lower)
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
		return s.linkLater(parent, base, string(h.Name), lower)
	}
	if err != nil {
		return &EntryError{Name: string(h.Name), Op: "link", Err: err}
	}
	return nil
}

// linkToItself changes nothing, if there is something to be a name of.
func (s *stage) linkToItself(parent *dir, base []byte, name, lower string) error {
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
		return s.linkLater(parent, base, name, lower)
	}
	return err
}

// isLinkedLater tells whether base in parent was given to a link that waits.
func (s *stage) isLinkedLater(parent *dir, base []byte) bool {
	if len(s.linkedTo) == 0 {
		return false
	}
	_, ok := s.linkedTo[parent.join(string(base))]
	return ok
}

// linkLater keeps a link for linkLower. What the layer had under its name is
// replaced by it now. A link to a kept link is one to that one's target.
func (s *stage) linkLater(parent *dir, base []byte, name, target string) error {
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
	if further, ok := s.linkedTo[target]; ok {
		target = s.links[further].target
	}
	path := parent.join(string(base))
	if earlier, ok := s.linkedTo[path]; ok {
		s.links[earlier].replaced = true
	}
	if s.linkedTo == nil {
		s.linkedTo = map[string]int{}
	}
	s.linkedTo[path] = len(s.links)
	s.links = append(s.links, lowerLink{dir: parent, base: string(base), name: name, target: target})
	return nil
}
