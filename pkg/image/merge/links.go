package merge

import (
	"strings"

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
func (l *Layer) hardLink(parent *dir, base []byte, h *tar.Header) error {
	l.linkBuf = changeset.Clean(l.linkBuf, h.Linkname)
	if len(l.linkBuf) == 0 {
		return changeset.ErrLinkToDirectory
	}
	targetPath, targetBase := changeset.Split(l.linkBuf)
	if role, err := changeset.Classify(targetPath, targetBase); err != nil || role != changeset.Plain {
		return changeset.ErrNoTarget // a name that no layer can make
	}
	from, lowerPath, err := l.walk(targetPath, nil)
	if err != nil {
		return err
	}
	if from != nil {
		lowerPath = from.path()
	}
	lower := joinPath(lowerPath, string(targetBase))
	if strings.HasPrefix(lower, parent.join(string(base))+"/") {
		return changeset.ErrNoTarget // it is below the link's own name, which the link replaces
	}
	var target node
	if from != nil {
		target = from.names[string(targetBase)]
	}
	if target.dir != nil {
		return changeset.ErrLinkToDirectory
	}
	name, err := l.vacate(parent, base)
	if err != nil {
		return err
	}
	if target.inode == nil {
		return l.linkLater(parent, name, string(h.Name), lower)
	}
	parent.set(name, target)
	return nil
}

// linkLater keeps a link for linkLower. What the layer had under its name is
// replaced by it now. A link to a kept link is one to that one's target.
func (l *Layer) linkLater(parent *dir, base, name, target string) error {
	if err := l.keep(); err != nil {
		return err
	}
	delete(parent.names, base)
	if further, ok := l.linkedTo[target]; ok {
		target = l.links[further].target
	}
	path := parent.join(base)
	if earlier, ok := l.linkedTo[path]; ok {
		l.links[earlier].replaced = true
	}
	if l.linkedTo == nil {
		l.linkedTo = map[string]int{}
	}
	l.linkedTo[path] = len(l.links)
	l.links = append(l.links, lowerLink{dir: parent, base: base, name: name, target: target})
	return nil
}

// linkLower gives the hard links that waited their target in the result, before
// anything of this layer changes it: what they mean is what is below.
func (m *merger) linkLower(l *Layer) error {
	for _, k := range l.links {
		parent, base := changeset.Split([]byte(k.target))
		var target node
		if from := m.follow(string(parent)); from != nil {
			target = from.names[string(base)]
		}
		switch {
		case target.inode == nil:
			return &changeset.EntryError{Name: k.name, Op: "link", Err: changeset.ErrNoTarget}
		case target.dir != nil:
			return &changeset.EntryError{Name: k.name, Op: "link", Err: changeset.ErrLinkToDirectory}
		case k.dir.removed() || k.replaced:
			continue
		}
		if _, taken := k.dir.names[k.base]; !taken { // by a later entry of the layer, which counts
			k.dir.set(k.base, target)
		}
	}
	return nil
}

// follow is the directory of the result at path, links followed as in a chroot;
// nil if there is none.
func (m *merger) follow(path string) *dir {
	at, links := m.root, 0
	for path != "" {
		var comp string
		comp, path, _ = strings.Cut(path, "/")
		switch comp {
		case "", ".":
			continue
		case "..":
			if at.parent != nil {
				at = at.parent
			}
			continue
		}
		n := at.names[comp]
		if n.isLink() {
			if links++; links > changeset.MaxLinks {
				return nil
			}
			if n.inode.Target[0] == '/' {
				at = m.root
			}
			path = n.inode.Target + "/" + path
			continue
		}
		if n.dir == nil {
			return nil
		}
		at = n.dir
	}
	return at
}

// canonical is the directory of the result that path leads to; nil if there is
// none. Links are followed in the result, but not where l has an entry of its own:
// `bin/` in l over the link bin below is a new directory, in which nothing is to be
// whited out.
func (m *merger) canonical(l *Layer, path string) *dir {
	at, links := m.root, 0
	for path != "" {
		var comp string
		comp, path, _ = strings.Cut(path, "/")
		switch comp {
		case "", ".":
			continue
		case "..":
			if at.parent != nil {
				at = at.parent
			}
			continue
		}
		n := at.names[comp]
		if n.dir != nil {
			at = n.dir
			continue
		}
		if !n.isLink() {
			return nil
		}
		if _, own := l.own(at.join(comp)); own {
			return nil
		}
		if links++; links > changeset.MaxLinks {
			return nil
		}
		if n.inode.Target[0] == '/' {
			at = m.root
		}
		path = n.inode.Target + "/" + path
	}
	return at
}
