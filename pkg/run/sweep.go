package run

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A container appears and disappears by one rename. What is being made is called
// .new-ID and locked by its maker, what is being removed .gone-ID. A process that
// was killed leaves such a directory; who comes by later removes it.
const (
	newPrefix  = ".new-"
	gonePrefix = ".gone-"
)

// newDir makes the directory of a container to be. lock holds it.
func (rt *Runtime) newDir() (id, dir string, lock *os.File, err error) {
	for {
		id = newID()
		dir = filepath.Join(rt.containers(), newPrefix+id)
		if err := os.Mkdir(dir, 0o700); err != nil {
			return "", "", nil, err
		}
		lock, err := lockDir(dir)
		if errors.Is(err, errLocked) || errors.Is(err, fs.ErrNotExist) {
			continue // a sweeper was faster, and has taken it for litter
		}
		return id, dir, lock, err
	}
}

func lockDir(dir string) (*os.File, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		// Not one that has been removed meanwhile.
		_, err = os.Lstat(dir)
	}
	if err != nil {
		d.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errLocked
		}
		return nil, err
	}
	return d, nil
}

// sweep removes what killed processes have left.
func (rt *Runtime) sweep() error {
	var failed error
	for _, prefix := range []string{newPrefix, gonePrefix} {
		litter, err := filepath.Glob(filepath.Join(rt.containers(), prefix+"*"))
		if err != nil {
			return err
		}
		for _, dir := range litter {
			lock, err := lockDir(dir)
			if err != nil {
				continue // somebody's, or gone by now
			}
			failed = errors.Join(failed, RemoveTree(dir))
			lock.Close()
		}
	}
	running, err := os.ReadDir(rt.run)
	if err != nil {
		return errors.Join(failed, err)
	}
	for _, d := range running {
		if !isID(d.Name()) || strings.HasPrefix(d.Name(), ".") {
			continue
		}
		c := &Container{rt: rt, Record: Record{ID: d.Name()}}
		if _, err := os.Lstat(rt.dataDir(c.ID)); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		lock, err := c.lock()
		if err != nil {
			continue
		}
		failed = errors.Join(failed, c.cleanUp(), os.RemoveAll(rt.runDir(c.ID)))
		lock.Close()
	}
	return failed
}
