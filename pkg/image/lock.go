package image

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// share takes the lock that keeps the cache from being pruned. It waits for who
// prunes: that does not take long.
func (c *Cache) share() (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(c.root, "layers/lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_SH)
		if err == nil {
			return f, nil
		}
		if err != unix.EINTR {
			f.Close()
			return nil, &os.PathError{Op: "flock", Path: f.Name(), Err: err}
		}
	}
}

// lockPoll is how often a lock that is held is tried again: who waits in flock(2)
// could not be told to give up.
const lockPoll = 20 * time.Millisecond

// lockDir makes the directory at path, unless it is there, and takes the lock on
// it. It waits until nobody holds that, or ctx ends.
func lockDir(ctx context.Context, path string) (*os.File, error) {
	var tick *time.Ticker
	for {
		dir, err := tryLockDir(path)
		if dir != nil || err != nil {
			return dir, err
		}
		if tick == nil {
			tick = time.NewTicker(lockPoll)
			defer tick.Stop()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// tryLockDir returns nil if somebody holds the lock, or has just removed or renamed
// the directory.
func tryLockDir(path string) (*os.File, error) {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	dir, err := os.OpenFile(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	var held, there unix.Stat_t
	if err == nil {
		err = unix.Fstat(int(dir.Fd()), &held)
	}
	if err == nil {
		err = unix.Lstat(path, &there)
	}
	if err == nil && held.Dev == there.Dev && held.Ino == there.Ino {
		return dir, nil
	}
	dir.Close()
	if err == nil || errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	return nil, &os.PathError{Op: "flock", Path: path, Err: err}
}
