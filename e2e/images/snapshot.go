package images

import (
	"io/fs"
	"path/filepath"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// stamp is what tells whether a file was touched between two snapshots. The
// kernel alone sets a ctime, so equal stamps mean an untouched file; the birth
// time tells a file from another that was given its inode number.
type stamp struct {
	mode  uint16
	ino   uint64
	ctime unix.StatxTimestamp
	btime unix.StatxTimestamp
}

func (s stamp) isDir() bool           { return s.mode&unix.S_IFMT == unix.S_IFDIR }
func (s stamp) sameFile(o stamp) bool { return s.ino == o.ino && s.btime == o.btime }

// snapshot is a tree's files by path, relative to the root, which is ".".
type snapshot map[string]stamp

func take(root string) (snapshot, error) {
	s := snapshot{}
	return s, filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		var st unix.Statx_t
		err = unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st)
		if err != nil {
			return &fs.PathError{Op: "statx", Path: path, Err: err}
		}
		s[name] = stamp{st.Mode, st.Ino, st.Ctime, st.Btime}
		return nil
	})
}

// change is one thing that a layer has to say.
type change struct {
	path string
	kind kind
}

type kind int

const (
	put    kind = iota // the file at path, as it is now
	remove             // nothing is at path any more: a whiteout
	opaque             // nothing of the lower directory at path is left
)

// diff lists what turns the tree of old into that of new, parents first and a
// directory's opaque mark before its children. The rules are image-spec
// layer.md's: a change of a file carries the whole file, and a path that is in
// no change stays as it is.
func diff(old, new snapshot) []change {
	var out []change
	names := make([]string, 0, len(new))
	for name := range new {
		names = append(names, name)
	}
	for name := range old {
		if _, stays := new[name]; !stays {
			names = append(names, name)
		}
	}
	sort.Slice(names, func(i, j int) bool { return before(names[i], names[j]) })

	replaced := "" // the directory whose lower content is hidden or gone, where the walk is below one
	below := func(name string) bool { return replaced != "" && strings.HasPrefix(name, replaced+"/") }
	for _, name := range names {
		was, existed := old[name]
		is, exists := new[name]
		hidden := below(name)
		switch {
		case !exists && hidden:
		case !exists:
			out = append(out, change{name, remove})
			replaced = name
		case !existed || hidden:
			out = append(out, change{name, put})
		case is.isDir() && was.isDir() && !is.sameFile(was):
			out = append(out, change{name, put}, change{name, opaque})
			replaced = name
		case is != was:
			out = append(out, change{name, put})
			if is.isDir() != was.isDir() {
				replaced = name
			}
		}
	}
	return out
}

// before orders paths so that a directory's content follows it at once: by
// component, not by byte, as "a/b" belongs before "a-b".
func before(a, b string) bool {
	return strings.ReplaceAll(a, "/", "\x00") < strings.ReplaceAll(b, "/", "\x00")
}
