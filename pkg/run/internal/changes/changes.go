// Package changes reads from the upper directory of an overlay what it makes of the
// layers below, in docker's three words: added, changed, deleted.
//
// The upper directory may be a running container's, who changes it meanwhile. So
// every directory is opened under the descriptor of its parent, without following a
// link, and what is gone by the time it is looked at was not there.
package changes

import (
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Kind is what has become of a file.
type Kind byte

const (
	Added   Kind = 'A'
	Changed Kind = 'C'
	Deleted Kind = 'D'
)

// Change is one changed file.
type Change struct {
	Kind Kind
	Path string // from the root, beginning with "/"
}

// Overlay lists what upper changes of lower, both open directories, sorted by path.
// Of a directory that was deleted, what was in it is not listed. hidden is where
// something is mounted that the container's user did not ask for: the empty
// files and directories that were made to mount it on are no changes.
func Overlay(ctx context.Context, upper, lower *os.File, hidden map[string]bool) ([]Change, error) {
	w := &walk{ctx: ctx, hidden: hidden}
	top := level{path: "/", upper: int(upper.Fd()), lower: int(lower.Fd())}
	if _, err := w.directory(top); err != nil {
		return nil, err
	}
	slices.SortFunc(w.list, func(a, b Change) int { return cmp.Compare(a.Path, b.Path) })
	return w.list, nil
}

type walk struct {
	ctx    context.Context
	hidden map[string]bool
	list   []Change
}

// level is a directory of upper, and that of lower which it lies over; lower is
// none, -1, where there was no directory.
type level struct {
	path         string
	upper, lower int
	// opaque: nothing of lower is seen, here or below.
	opaque bool
}

// directory lists what is changed in a directory, and tells whether something was
// left out as hidden.
func (w *walk) directory(l level) (hid bool, err error) {
	names, err := list(l.upper)
	if err != nil {
		return false, &os.PathError{Op: "read", Path: l.path, Err: err}
	}
	for _, name := range names {
		if err := w.ctx.Err(); err != nil {
			return false, err
		}
		h, err := w.entry(l, name)
		if err != nil {
			return false, &os.PathError{Op: "compare", Path: path.Join(l.path, name), Err: err}
		}
		hid = hid || h
	}
	if !l.opaque || l.lower < 0 {
		return hid, nil
	}
	below, err := list(l.lower)
	if err != nil {
		return false, &os.PathError{Op: "read", Path: l.path, Err: err}
	}
	for _, name := range below {
		if !slices.Contains(names, name) {
			w.add(Deleted, path.Join(l.path, name))
		}
	}
	return hid, nil
}

func (w *walk) add(k Kind, name string) { w.list = append(w.list, Change{k, name}) }

// entry tells of one name in a directory of upper.
func (w *walk) entry(l level, name string) (hid bool, err error) {
	at := path.Join(l.path, name)
	var now, then unix.Stat_t
	if err := stat(l.upper, name, &now); err == unix.ENOENT {
		return false, nil
	} else if err != nil {
		return false, err
	}
	kind := Added
	if l.lower >= 0 {
		if err := stat(l.lower, name, &then); err == nil {
			kind = Changed
		} else if err != unix.ENOENT {
			return false, err
		}
	}
	switch {
	case isWhiteout(&now):
		if kind == Changed {
			w.add(Deleted, at)
		}
		return false, nil
	case now.Mode&unix.S_IFMT == unix.S_IFDIR:
		return w.subdirectory(l, name, kind, &now, &then)
	case w.hidden[at] && now.Size == 0:
		return true, nil
	}
	w.add(kind, at)
	return false, nil
}

// isWhiteout: Documentation/filesystems/overlayfs.rst, "whiteouts and opaque
// directories".
func isWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

// subdirectory tells of a directory of upper. One that is there only because
// something in it was changed, or made to be mounted on, is as it was.
func (w *walk) subdirectory(l level, name string, kind Kind, now, then *unix.Stat_t) (hid bool, err error) {
	below := level{path: path.Join(l.path, name), lower: -1, opaque: l.opaque}
	if below.upper, err = open(l.upper, name); err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
		return false, nil // by now
	} else if err != nil {
		return false, err
	}
	defer unix.Close(below.upper)
	wasDir := kind == Changed && then.Mode&unix.S_IFMT == unix.S_IFDIR
	if wasDir {
		if below.lower, err = open(l.lower, name); err != nil {
			return false, err
		}
		defer unix.Close(below.lower)
		if !below.opaque {
			if below.opaque, err = isOpaque(below.upper); err != nil {
				return false, err
			}
		}
	}
	before := len(w.list)
	if hid, err = w.directory(below); err != nil {
		return false, err
	}
	within := len(w.list) > before
	switch {
	case kind == Added && !within && w.hidden[below.path]:
		return true, nil
	case kind == Added && !within && hid:
		return true, nil
	case wasDir && !within && same(now, then) && (hid || now.Mtim == then.Mtim):
		return hid, nil
	}
	w.add(kind, below.path)
	return hid, nil
}

func same(a, b *unix.Stat_t) bool { return a.Mode == b.Mode && a.Uid == b.Uid && a.Gid == b.Gid }

// isOpaque asks a directory for the mark of either kind of overlay: with real
// privilege, and within a user namespace.
func isOpaque(dir int) (bool, error) {
	var value [1]byte
	for _, name := range []string{"trusted.overlay.opaque", "user.overlay.opaque"} {
		n, err := unix.Fgetxattr(dir, name, value[:])
		switch {
		case err == nil && n == 1 && value[0] == 'y':
			return true, nil
		case err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.ERANGE):
			return false, err
		}
	}
	return false, nil
}

func stat(dir int, name string, st *unix.Stat_t) error {
	return unix.Fstatat(dir, name, st, unix.AT_SYMLINK_NOFOLLOW)
}

func open(dir int, name string) (int, error) {
	return unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// list returns the sorted names in a directory, of which an O_PATH descriptor is
// enough.
func list(dir int) ([]string, error) {
	fd, err := open(dir, ".")
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), ".")
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil && err != io.EOF {
		return nil, err
	}
	slices.SortFunc(names, strings.Compare)
	return names, nil
}
