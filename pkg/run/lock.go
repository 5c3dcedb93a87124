package run

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Locks are those of open files (fcntl(2), "Open file description locks"): the
// kernel drops them with the last process that holds the file, however it ended.
// Unlike those of flock(2) they can be looked at without being taken, so that ps
// is never in the way of a start.
//
// A container's lock file is write-locked by the process that waits for the
// container, and read-locked for a moment by those who wait for that to end.

var errLocked = errors.New("locked")

// lockFile write-locks the file name, made if missing. wait says whether to wait
// for another writer or to return errLocked. A file that was removed meanwhile is
// not the one that others lock, so it is looked up again.
func lockFile(name string, wait bool) (*os.File, error) {
	for {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err := writeLock(f, wait); err != nil {
			f.Close()
			return nil, err
		}
		ours, err := f.Stat()
		if err == nil {
			now, serr := os.Stat(name)
			if serr == nil && os.SameFile(ours, now) {
				return f, nil
			}
			err = serr
		}
		f.Close()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
}

func writeLock(f *os.File, wait bool) error {
	for {
		how := unix.F_OFD_SETLK
		if wait {
			how = unix.F_OFD_SETLKW
		}
		err := unix.FcntlFlock(f.Fd(), how, &unix.Flock_t{Type: unix.F_WRLCK})
		switch {
		case err == nil:
			return nil
		case err == unix.EINTR:
			continue
		case err != unix.EAGAIN && err != unix.EACCES:
			return err
		}
		locked, err := writeLocked(f)
		if err != nil {
			return err
		}
		if locked {
			return errLocked
		}
		time.Sleep(time.Millisecond) // a reader, on its way out
	}
}

// writeLocked says whether somebody else has write-locked the file.
func writeLocked(f *os.File) (bool, error) {
	l := unix.Flock_t{Type: unix.F_RDLCK} // conflicts with writers alone
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &l); err != nil {
		return false, err
	}
	return l.Type != unix.F_UNLCK, nil
}

// lock makes this process the one that waits for the container. It does not
// wait for another one to let go: ErrRunning. One that was removed meanwhile is
// ErrNotFound.
func (c *Container) lock() (*os.File, error) {
	lock, err := c.lockRun()
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(c.rt.recordFile(c.ID)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = errors.Join(fmt.Errorf("%.12s: %w", c.ID, ErrNotFound), c.rt.removeRunDir(c.ID))
		}
		lock.Close()
		return nil, err
	}
	return lock, nil
}

// lockRun is lock whether there is such a container or only what runs of it.
func (c *Container) lockRun() (*os.File, error) {
	var lock *os.File
	for {
		if err := os.MkdirAll(c.rt.runDir(c.ID), 0o700); err != nil {
			return nil, err
		}
		var err error
		lock, err = lockFile(c.rt.lockFile(c.ID), false)
		if errors.Is(err, errLocked) {
			return nil, ErrRunning
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue // a remover has taken the directory away
		}
		if err != nil {
			return nil, err
		}
		break
	}
	// An exit code that an earlier run has left, and then could not remove.
	if err := lock.Truncate(0); err != nil {
		lock.Close()
		return nil, err
	}
	return lock, nil
}

// removeRunDir removes a container's directory of what runs. It needs the lock.
func (rt *Runtime) removeRunDir(id string) error {
	err := os.RemoveAll(rt.runDir(id))
	if errors.Is(err, unix.ENOTEMPTY) {
		return nil // somebody locks it anew, who is going to find that there is nothing
	}
	return err
}

// attended says whether a live process waits for the container.
func (c *Container) attended() (bool, error) {
	f, err := os.OpenFile(c.rt.lockFile(c.ID), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	return writeLocked(f)
}

// waitUnattended waits until no process waits for the container any more. The
// goroutine that waits outlives a cancelled ctx until the lock is free, as it
// cannot be interrupted.
func (c *Container) waitUnattended(ctx context.Context) error {
	f, err := c.openLock()
	if f == nil || err != nil {
		return err
	}
	_, _, err = waitUnlocked(ctx, f)
	return err
}

// openLock opens the lock file; nil where there is none.
func (c *Container) openLock() (*os.File, error) {
	f, err := os.OpenFile(c.rt.lockFile(c.ID), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return f, err
}

// waitUnlocked waits until nobody has write-locked f, which it closes, and returns
// the exit code that leaveCode has left there, if it has.
func waitUnlocked(ctx context.Context, f *os.File) (code int, left bool, err error) {
	type result struct {
		code int
		left bool
		err  error
	}
	free := make(chan result, 1)
	go func() {
		defer f.Close()
		var r result
		for {
			r.err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLKW, &unix.Flock_t{Type: unix.F_RDLCK})
			if r.err != unix.EINTR {
				break
			}
		}
		if r.err == nil {
			n, _ := fmt.Fscan(f, &r.code)
			r.left = n == 1
		}
		free <- r
	}()
	select {
	case r := <-free:
		return r.code, r.left, r.err
	case <-ctx.Done():
		return 0, false, ctx.Err()
	}
}

// leaveCode leaves a run's exit code to those who have the lock file open: one of
// a container that removes itself can be found nowhere else.
func leaveCode(lock *os.File, code int) error {
	_, err := fmt.Fprintln(lock, code)
	return err
}
