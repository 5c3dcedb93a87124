package cp

import (
	"errors"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"peel/internal/beneath"
)

// rooted is a path from the root, without "." and "..", which docker takes away by
// the letter too: not even a link before it counts.
func rooted(p string) string { return path.Join("/", p) }

// asksDirectory tells whether a path can only be a directory's.
func asksDirectory(p string) bool { return strings.HasSuffix(p, "/") || asksContent(p) }

func asksContent(p string) bool { return p == "." || strings.HasSuffix(p, "/.") }

// source is what is to be copied.
type source struct {
	handle *os.File
	base   string // the last part of its path
	isDir  bool
	// content: what is in the directory is meant.
	content bool
}

func (p Place) source(follow bool) (*source, error) {
	name := rooted(p.Path)
	flags := unix.O_PATH
	if !follow && !asksDirectory(p.Path) {
		flags |= unix.O_NOFOLLOW
	}
	f, err := p.Root.Follow(name, flags, 0)
	if err != nil {
		return nil, named(p, err)
	}
	s := &source{handle: f, base: path.Base(name), content: asksContent(p.Path) || name == "/"}
	if s.isDir, err = isDirectory(f); err == nil && !s.isDir && asksDirectory(p.Path) {
		err = unix.ENOTDIR
	}
	if err != nil {
		f.Close()
		return nil, named(p, err)
	}
	return s, nil
}

// named puts the path into an error as the caller has written it.
func named(p Place, err error) error {
	var in *os.PathError
	if errors.As(err, &in) {
		err = in.Err
	}
	return &os.PathError{Op: "open", Path: p.Path, Err: err}
}

func isDirectory(f *os.File) (bool, error) {
	var st unix.Stat_t
	err := unix.Fstat(int(f.Fd()), &st)
	return st.Mode&unix.S_IFMT == unix.S_IFDIR, err
}

// target is where it is to be copied to: a name in a directory, or with an empty
// name the directory itself.
type target struct {
	dir  *beneath.Dir
	name string
}

func (p Place) destination(src *source) (*target, error) {
	fail := func(err error) (*target, error) { return nil, named(p, err) }
	f, err := p.Root.Follow(rooted(p.Path), unix.O_PATH, 0)
	if err == nil {
		isDir, err := isDirectory(f)
		if isDir && err == nil {
			t := &target{beneath.New(f), src.base}
			if src.content && src.isDir {
				t.name = ""
			}
			return t, nil
		}
		f.Close()
		switch {
		case err != nil:
			return fail(err)
		case asksDirectory(p.Path):
			return fail(unix.ENOTDIR)
		case src.isDir:
			return fail(ErrNotDirectory)
		}
	} else if !errors.Is(err, unix.ENOENT) {
		return fail(err)
	} else if asksDirectory(p.Path) && !src.isDir {
		return fail(ErrNoDirectory)
	}
	t, err := p.final()
	if errors.Is(err, unix.ENOENT) {
		return fail(ErrNoDirectory)
	}
	if err != nil {
		return fail(err)
	}
	return t, nil
}

// maxLinks is the kernel's own bound on links in one name (path_resolution(7)).
const maxLinks = 40

// final is the directory and the name that a path leads to, which need not be there:
// links that are the last part of it are followed.
func (p Place) final() (*target, error) {
	name := rooted(p.Path)
	for range maxLinks {
		dir, base := path.Split(name)
		if base == "" || base == "." || base == ".." {
			return nil, unix.EISDIR // by now
		}
		f, err := p.Root.Follow(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return nil, err
		}
		d := beneath.New(f)
		link, err := d.Readlink(base)
		switch {
		case err == nil:
			d.Close()
			// Not made shorter: a ".." behind a link is the parent of where that leads.
			if name = link; !path.IsAbs(link) {
				name = dir + link
			}
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
			return &target{d, base}, nil
		default:
			d.Close()
			return nil, err
		}
	}
	return nil, unix.ELOOP
}
