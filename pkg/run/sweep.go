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
		lock, err := c.lockRun()
		if err != nil {
			continue
		}
		failed = errors.Join(failed, c.cleanUp(), rt.removeRunDir(c.ID))
		lock.Close()
	}
	return failed
}

// sweepEnded removes containers that were to remove themselves when they ended, and
// whose caller or monitor was killed before. It looks at those alone that nobody
// has finished. One that cannot be removed is left for Remove, which says why.
func (rt *Runtime) sweepEnded() {
	started, err := os.ReadDir(rt.run)
	if err != nil {
		return
	}
	for _, d := range started {
		if _, err := os.Lstat(rt.stateFile(d.Name())); err != nil || !isID(d.Name()) {
			continue
		}
		if c, err := rt.load(d.Name()); err == nil {
			_, _ = c.RemoveEnded()
		}
	}
}

// RemoveEnded removes a container that was to remove itself, and could not: one
// that has ended, while nobody waited for it. It says whether that was so.
func (c *Container) RemoveEnded() (removed bool, err error) {
	if !c.AutoRemove {
		return false, nil
	}
	if s, err := c.Status(); err != nil || s.Phase != Exited {
		return false, err
	}
	lock, err := c.lock()
	if errors.Is(err, ErrRunning) || errors.Is(err, ErrNotFound) {
		return false, nil // it is being started, or removed
	}
	if err != nil {
		return false, err
	}
	defer lock.Close()
	fd, _, err := c.pidfd()
	if err == nil { // started meanwhile, and its monitor killed
		return false, unix.Close(fd)
	}
	if !errors.Is(err, ErrNotRunning) {
		return false, err
	}
	return true, c.remove()
}
