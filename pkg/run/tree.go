package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"peel/internal/detached"
)

// Source is an image that is ready to be mounted.
type Source interface {
	// Key is the same for those whose mounts may stand for each other: of the same
	// files, and not of another image ever. Empty is no such key.
	Key() string
	// Tree mounts the image read-only.
	Tree() (*detached.Mount, error)
	Close() error
}

// Tree is the root directory of an image, in a mount of its own.
type Tree struct {
	*detached.Mount
	key string
}

// OpenTree mounts an image, for the caller to close. If a container of it runs, it
// is that one's mount once more. So containers of one image have one page cache, and
// a program that one of them runs is in memory for the others.
func (rt *Runtime) OpenTree(s Source) (*Tree, error) {
	key := s.Key()
	if key != "" {
		if m := rt.borrow(key); m != nil {
			return &Tree{m, key}, nil
		}
	}
	m, err := s.Tree()
	if err != nil {
		return nil, err
	}
	return &Tree{m, key}, nil
}

// loan is a mount that a process keeps for others who start containers of the same
// image. It is a link in the run directory of the container that the process waits
// for. A loan that is over does no harm: the process has removed the link before it
// closed the descriptor, or it is dead.
type loan struct {
	pid   int
	birth uint64
	fd    int
	// The root directory. No other file has the same numbers while the mount lives.
	dev, ino uint64
	key      string
}

func (l loan) String() string {
	return fmt.Sprintf("%d:%d:%d:%d:%d:%s", l.pid, l.birth, l.fd, l.dev, l.ino, l.key)
}

func parseLoan(s string) (l loan, ok bool) {
	f := strings.SplitN(s, ":", 6)
	if len(f) != 6 {
		return l, false
	}
	var errs [5]error
	l.pid, errs[0] = strconv.Atoi(f[0])
	l.birth, errs[1] = strconv.ParseUint(f[1], 10, 64)
	l.fd, errs[2] = strconv.Atoi(f[2])
	l.dev, errs[3] = strconv.ParseUint(f[3], 10, 64)
	l.ino, errs[4] = strconv.ParseUint(f[4], 10, 64)
	l.key = f[5]
	return l, errors.Join(errs[:]...) == nil
}

// lend keeps a copy of tree for others until takeBack; nil where the kernel makes
// none (before 6.15), or nobody could borrow it. It needs the container's lock.
func (c *Container) lend(tree *Tree) *Tree {
	if tree == nil || tree.key == "" {
		return nil
	}
	m, err := tree.Clone()
	if err != nil {
		return nil
	}
	err = m.Do(func(fd int) error {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		l := loan{os.Getpid(), bornAt(os.Getpid()), fd, st.Dev, st.Ino, tree.key}
		if err := os.Remove(c.rt.treeLink(c.ID)); err != nil && !errors.Is(err, os.ErrNotExist) { // of one who was killed
			return err
		}
		return os.Symlink(l.String(), c.rt.treeLink(c.ID))
	})
	if err != nil {
		m.Close()
		return nil
	}
	return &Tree{m, tree.key}
}

// takeBack ends a loan. The link goes first: a borrower who still sees it afterwards
// knows that the descriptor was not yet another file's.
func (c *Container) takeBack(kept *Tree) error {
	if kept == nil {
		return nil
	}
	return errors.Join(os.Remove(c.rt.treeLink(c.ID)), kept.Close())
}

// borrow returns a copy of a mount that somebody lends under that key; nil if nobody
// does.
func (rt *Runtime) borrow(key string) *detached.Mount {
	run, err := os.Open(rt.run)
	if err != nil {
		return nil
	}
	defer run.Close()
	ids, err := run.Readdirnames(-1)
	if err != nil {
		return nil
	}
	for _, id := range ids {
		link := rt.treeLink(id)
		text, err := os.Readlink(link)
		if err != nil || !strings.HasSuffix(text, ":"+key) {
			continue
		}
		l, ok := parseLoan(text)
		if !ok || l.key != key {
			continue
		}
		m := l.copy()
		if m == nil {
			continue
		}
		if again, err := os.Readlink(link); err == nil && again == text && bornAt(l.pid) == l.birth {
			return m
		}
		m.Close()
	}
	return nil
}

// copy copies the mount that the loan's descriptor is now; nil unless it is the one
// that was lent.
func (l loan) copy() *detached.Mount {
	name := fmt.Sprintf("/proc/%d/fd/%d", l.pid, l.fd)
	fd, err := unix.OpenTree(unix.AT_FDCWD, name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil
	}
	m := detached.New(fd, l.key)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Dev != l.dev || st.Ino != l.ino {
		m.Close()
		return nil
	}
	return m
}

func (rt *Runtime) treeLink(id string) string { return filepath.Join(rt.runDir(id), "tree") }
