package unpack

import (
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"peel/internal/beneath"
	"peel/pkg/layers/changeset"
)

// merger lays the trees of an image's layers one over the other, from the bottom
// up. The bottom tree is where the others are moved to, whole subtrees at a time:
//
//	result   etc/passwd  usr/bin/vi        rename usr/lib   -> usr/lib
//	layer    etc/hosts   usr/lib/…         rename etc/hosts -> etc/hosts
//
// Only directories that both have are entered. The outcome is that of applying
// the layers one after the other (image-spec layer.md, Applying Changesets), with
// a layer taken as a set: its whiteouts first, then its entries.
//
// What a layer's tree cannot know by itself is settled here, before it is moved:
// hard links to lower layers (linkLower), whiteouts, and parents that are links
// below (align).
type merger struct {
	caller  *caller
	root    *beneath.Dir // the result
	trash   int          // a directory for what is replaced
	trashed int
	// quiet stands in for shared where something is done that was done, and its
	// losses counted, in the layer's tree.
	quiet *shared
}

// add lays s over the result. s is finished and nobody else works on it.
func (m *merger) add(s *stage) error {
	if err := m.linkLower(s); err != nil {
		return err
	}
	for _, victims := range [][]victim{s.whiteouts, s.hidden} {
		for _, v := range victims {
			if err := m.whiteout(s, v); err != nil {
				return entryError(joinPath(v.dir, v.name), "whiteout", err)
			}
		}
	}
	if err := m.align(s); err != nil {
		return err
	}
	from, err := s.openDir(s.tree.root)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	to, err := m.root.Open(".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer to.Close()
	return m.overlay(s, s.tree.root, from, int(to.Fd()))
}

// overlay moves what is in d, open as from, into the directory to.
func (m *merger) overlay(s *stage, d *dir, from, to int) error {
	var was unix.Stat_t
	if err := unix.Fstat(to, &was); err != nil {
		return entryError(d.path(), "stat", err)
	}
	err := eachEntry(from, func(e dirent) error {
		name := e.text()
		var below *dir
		if e.typ == unix.DT_DIR {
			below = s.tree.known[dirKey{d, name}]
		}
		if err := m.put(s, below, from, to, name); err != nil {
			return entryError(d.join(name), "merge", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return entryError(d.path(), "merge", m.dress(s, d, to, &was))
}

// put moves one name from one directory to the other. d is its directory, nil if
// it is none.
func (m *merger) put(s *stage, d *dir, from, to int, name string) error {
	err := renameNoReplace(from, name, to, name)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	typ, err := typeAt(to, name)
	if err != nil {
		return err
	}
	if d != nil && typ == unix.DT_DIR {
		fromSub, err := openSub(from, name)
		if err != nil {
			return err
		}
		defer unix.Close(fromSub)
		toSub, err := openSub(to, name)
		if err != nil {
			return err
		}
		defer unix.Close(toSub)
		return m.overlay(s, d, fromSub, toSub)
	}
	// Not renamed over: ext4 would write the new file's bytes to disk at once, for
	// the sake of programs that replace files in this way (auto_da_alloc).
	if err := m.discard(to, name, typ); err != nil {
		return err
	}
	return renameNoReplace(from, name, to, name)
}

func openSub(dirfd int, name string) (int, error) {
	return unix.Openat(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// discard makes name vanish. A directory is only moved: removing what is below it
// can wait until the image is there.
func (m *merger) discard(dirfd int, name string, typ byte) error {
	if typ != unix.DT_DIR {
		return unix.Unlinkat(dirfd, name, 0)
	}
	m.trashed++
	return unix.Renameat(dirfd, name, m.trash, strconv.Itoa(m.trashed))
}

// dress gives a merged directory the attributes of the layer's, if the layer has
// an entry for it, else the times back that it had before it was changed.
func (m *merger) dress(s *stage, d *dir, to int, was *unix.Stat_t) error {
	if !d.explicit {
		return futimens(to, &[2]unix.Timespec{was.Atim, was.Mtim})
	}
	if err := removeXattrs(to); err != nil {
		return err
	}
	op, err := settle(m.quiet, to, was.Uid, was.Gid, ^uint32(0), &d.attrs, label{name: d.path()})
	return entryError(d.path(), op, err)
}

// removeXattrs leaves no attribute of a lower layer on the directory: an entry
// tells all that it has.
func removeXattrs(fd int) error {
	buf := make([]byte, 64<<10) // XATTR_LIST_MAX
	n, err := unix.Flistxattr(fd, buf)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return err
	}
	for rest := buf[:n]; len(rest) > 0; {
		name := unix.ByteSliceToString(rest)
		rest = rest[len(name)+1:]
		if changeset.Refused([]byte(name)) != "" && name != overrideStat {
			continue // the host's
		}
		if err := unix.Fremovexattr(fd, name); err != nil && !errors.Is(err, unix.ENODATA) && !tolerable(err) {
			return err
		}
	}
	return nil
}

// touched opens a directory of the result, does change to it, and gives it its
// times back.
func (m *merger) touched(path string, change func(fd int) error) error {
	f, err := m.openResult(path)
	if err != nil {
		return err
	}
	defer f.Close()
	fd := int(f.Fd())
	var was unix.Stat_t
	if err := unix.Fstat(fd, &was); err != nil {
		return err
	}
	if err := change(fd); err != nil {
		return err
	}
	return futimens(fd, &[2]unix.Timespec{was.Atim, was.Mtim})
}

// openResult opens a directory of the result by its canonical path.
func (m *merger) openResult(path string) (*os.File, error) {
	if path == "" {
		path = "."
	}
	return m.root.Open(path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
}

func (m *merger) close() {
	m.root.Close()
	unix.Close(m.trash)
}
