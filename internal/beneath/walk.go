package beneath

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// mode is how walk treats links and what leads out.
type mode int

const (
	strict mode = iota // as openat2 with RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
	inRoot             // as openat2 with RESOLVE_IN_ROOT
)

// maxLinks is the kernel's own bound on links in one name (path_resolution(7)).
const maxLinks = 40

// walk does what openat2 would, in steps of one component. It keeps the
// descriptors of all directories from root down to where it is, so that ".." is
// the one it came from whatever a rename has made of the tree meanwhile: asking
// the kernel for ".." in a directory that was just moved out would lead out.
func walk(root int, name string, flags int, perm os.FileMode, m mode) (int, error) {
	if name == "" {
		return -1, unix.ENOENT
	}
	if len(name) >= unix.PathMax {
		return -1, unix.ENAMETOOLONG
	}
	w := walker{dirs: []int{root}}
	defer w.up(1)

	links := 0
	for rest := name; ; {
		if strings.HasPrefix(rest, "/") {
			if m == strict {
				return -1, unix.EXDEV
			}
			w.up(1)
			rest = strings.TrimLeft(rest, "/")
		}
		comp, tail, more := strings.Cut(rest, "/")
		last := strings.Trim(tail, "/") == ""
		switch comp {
		case "", ".":
			if last {
				return w.open(".", flags&^unix.O_EXCL, perm)
			}
			rest = strings.TrimLeft(tail, "/")
			continue
		case "..":
			if len(w.dirs) == 1 && m == strict {
				return -1, unix.EXDEV
			}
			w.up(max(1, len(w.dirs)-1))
			if last {
				return w.open(".", flags&^unix.O_EXCL, perm)
			}
			rest = strings.TrimLeft(tail, "/")
			continue
		}

		if last {
			lastFlags := flags
			if more { // "name/" asks for a directory and follows a link to one
				if flags&unix.O_CREAT != 0 {
					return -1, unix.EISDIR
				}
				lastFlags |= unix.O_DIRECTORY
			}
			fd, err := w.open(comp, lastFlags|unix.O_NOFOLLOW, perm)
			follow := more || flags&unix.O_NOFOLLOW == 0
			if flags&unix.O_CREAT != 0 && flags&unix.O_EXCL != 0 {
				follow = false
			}
			if !follow {
				return fd, err
			}
			// With O_NOFOLLOW a link is ELOOP, or with O_DIRECTORY ENOTDIR, or with
			// O_PATH opened itself. Only then is there anything to follow.
			switch {
			case err == nil && flags&unix.O_PATH == 0, err != nil && err != unix.ELOOP && err != unix.ENOTDIR:
				return fd, err
			}
			target, isLink := w.link(comp)
			if !isLink {
				return fd, err
			}
			if err == nil {
				unix.Close(fd)
			}
			if m == strict {
				return -1, unix.ELOOP
			}
			if links++; links > maxLinks {
				return -1, unix.ELOOP
			}
			if rest = target; more {
				rest += "/"
			}
			continue
		}

		err := w.down(comp)
		if err == nil {
			rest = strings.TrimLeft(tail, "/")
			continue
		}
		if err != unix.ENOTDIR && err != unix.ELOOP {
			return -1, err
		}
		target, isLink := w.link(comp)
		switch {
		case !isLink:
			return -1, unix.ENOTDIR
		case m == strict:
			return -1, unix.ELOOP
		}
		if links++; links > maxLinks {
			return -1, unix.ELOOP
		}
		rest = target + "/" + tail
	}
}

// walker is the way from the root to the current directory. dirs[0] is borrowed.
type walker struct{ dirs []int }

func (w *walker) at() int { return w.dirs[len(w.dirs)-1] }

// up goes back to the n-th directory of the way, counted from 1.
func (w *walker) up(n int) {
	for _, fd := range w.dirs[n:] {
		unix.Close(fd)
	}
	w.dirs = w.dirs[:n]
}

func (w *walker) down(name string) error {
	fd, err := w.open(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == nil {
		w.dirs = append(w.dirs, fd)
	}
	return err
}

func (w *walker) open(name string, flags int, perm os.FileMode) (int, error) {
	for {
		fd, err := unix.Openat(w.at(), name, flags, uint32(perm.Perm()))
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func (w *walker) link(name string) (target string, ok bool) {
	target, err := readlink(w.at(), name)
	return target, err == nil
}
