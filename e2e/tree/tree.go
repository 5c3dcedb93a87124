// Package tree lists everything that can be seen of a file tree and compares
// two lists. It is how the end-to-end tests tell whether two tools made the
// same rootfs, so it looks at the disk by itself and trusts nobody's metadata.
package tree

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Entry is one file. Fields that its type does not have are empty.
type Entry struct {
	Path   string // relative to the root, which is "."
	Type   string // file, dir, symlink, char, block, fifo or socket
	Mode   uint32 // permissions and the set-id and sticky bits
	UID    uint32
	GID    uint32
	Size   int64             // of a file
	SHA256 string            // of a file's content
	Target string            // of a symlink, as written
	Device string            // of a device, "major:minor"
	Mtime  string            // seconds and nanoseconds since 1970
	Xattrs map[string]string // all namespaces; security.selinux is the host's and left out
	Links  []string          // all names in the tree of a file that has several, sorted
}

// Tree is the entries of a tree by path.
type Tree map[string]*Entry

// List reads the tree at root. It follows no link and crosses no mount.
func List(root string) (Tree, error) {
	t := Tree{}
	groups := map[[2]uint64][]*Entry{}
	var rootDev uint64
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return &fs.PathError{Op: "lstat", Path: path, Err: err}
		}
		e, err := entry(root, path, &st)
		if err != nil {
			return err
		}
		t[e.Path] = e
		switch {
		case e.Path == ".":
			rootDev = st.Dev
		case e.Type == "dir" && st.Dev != rootDev:
			return filepath.SkipDir
		case e.Type != "dir" && st.Nlink > 1:
			id := [2]uint64{st.Dev, st.Ino}
			groups[id] = append(groups[id], e)
		}
		if e.Type == "file" {
			g.Go(func() (err error) {
				e.SHA256, err = hash(path)
				return err
			})
		}
		return nil
	})
	if err := errors.Join(err, g.Wait()); err != nil {
		return nil, err
	}
	for _, members := range groups {
		var names []string
		for _, e := range members {
			names = append(names, e.Path)
		}
		if len(names) == 1 {
			continue // its other names are outside of the tree
		}
		slices.Sort(names)
		for _, e := range members {
			e.Links = names
		}
	}
	return t, nil
}

func entry(root, path string, st *unix.Stat_t) (*Entry, error) {
	name, err := filepath.Rel(root, path)
	if err != nil {
		return nil, err
	}
	e := &Entry{
		Path: name, Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid,
		Mtime: fmt.Sprintf("%d.%09d", st.Mtim.Sec, st.Mtim.Nsec),
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Type, e.Size = "file", st.Size
	case unix.S_IFDIR:
		e.Type = "dir"
	case unix.S_IFLNK:
		e.Type = "symlink"
		if e.Target, err = os.Readlink(path); err != nil {
			return nil, err
		}
	case unix.S_IFCHR:
		e.Type = "char"
	case unix.S_IFBLK:
		e.Type = "block"
	case unix.S_IFIFO:
		e.Type = "fifo"
	case unix.S_IFSOCK:
		e.Type = "socket"
	}
	if e.Type == "char" || e.Type == "block" {
		e.Device = fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	e.Xattrs, err = xattrs(path)
	return e, err
}

func xattrs(path string) (map[string]string, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if errors.Is(err, unix.ENOTSUP) || n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, &fs.PathError{Op: "llistxattr", Path: path, Err: err}
	}
	out := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if name == "security.selinux" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return nil, &fs.PathError{Op: "lgetxattr " + name, Path: path, Err: err}
		}
		out[name] = string(value[:n])
	}
	return out, nil
}

func hash(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Difference is one field of one path in which two trees are not the same.
// Field "missing" and "extra" speak of the path as a whole.
type Difference struct {
	Path, Field, Want, Got string
}

func (d Difference) String() string {
	return fmt.Sprintf("%s: %s: want %s, got %s", d.Path, d.Field, d.Want, d.Got)
}

// Compare lists what got has otherwise than want, by path. Below a path that is
// missing or extra nothing more is said of its content, and of two files of
// different type only that.
func Compare(want, got Tree) []Difference {
	var out []Difference
	paths := slices.Sorted(maps.Keys(want))
	for path := range got {
		if want[path] == nil {
			paths = append(paths, path)
		}
	}
	slices.SortFunc(paths, func(a, b string) int {
		return strings.Compare(strings.ReplaceAll(a, "/", "\x00"), strings.ReplaceAll(b, "/", "\x00"))
	})
	for _, path := range paths {
		w, g := want[path], got[path]
		parent := filepath.Dir(path)
		switch {
		case w == nil:
			if path == "." || want[parent] != nil {
				out = append(out, Difference{path, "extra", "nothing", g.Type})
			}
		case g == nil:
			if path == "." || got[parent] != nil {
				out = append(out, Difference{path, "missing", w.Type, "nothing"})
			}
		case w.Type != g.Type:
			out = append(out, Difference{path, "type", w.Type, g.Type})
		default:
			out = append(out, compareEntry(w, g)...)
		}
	}
	return out
}

func compareEntry(w, g *Entry) []Difference {
	var out []Difference
	field := func(name string, want, got any) {
		if ws, gs := fmt.Sprint(want), fmt.Sprint(got); ws != gs {
			out = append(out, Difference{w.Path, name, ws, gs})
		}
	}
	field("mode", fmt.Sprintf("%04o", w.Mode), fmt.Sprintf("%04o", g.Mode))
	field("owner", fmt.Sprintf("%d:%d", w.UID, w.GID), fmt.Sprintf("%d:%d", g.UID, g.GID))
	field("size", w.Size, g.Size)
	field("content", w.SHA256, g.SHA256)
	field("target", w.Target, g.Target)
	field("device", w.Device, g.Device)
	field("mtime", w.Mtime, g.Mtime)
	field("xattrs", fmt.Sprintf("%q", w.Xattrs), fmt.Sprintf("%q", g.Xattrs))
	field("links", fmt.Sprintf("%q", w.Links), fmt.Sprintf("%q", g.Links))
	return out
}
