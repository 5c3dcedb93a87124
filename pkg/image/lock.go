package image

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"peel/internal/flock"
)

// share takes the lock that keeps the cache from being pruned. It waits for who
// prunes: that does not take long.
func (c *Cache) share() (*os.File, error) {
	f, err := c.openLock()
	if err != nil {
		return nil, err
	}
	if err := flock.Share(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// exclude takes the lock alone: ErrInUse while anybody uses the cache.
func (c *Cache) exclude() (*os.File, error) {
	f, err := c.openLock()
	if err != nil {
		return nil, err
	}
	if ok, err := flock.Try(f); !ok {
		f.Close()
		return nil, cmp.Or(err, ErrInUse)
	}
	return f, nil
}

func (c *Cache) openLock() (*os.File, error) {
	return os.OpenFile(filepath.Join(c.root, "layers/lock"), os.O_RDWR|os.O_CREATE, 0o600)
}

// lockDir makes the directory at path, unless it is there, and takes the lock on
// it. It waits until nobody holds that, or ctx ends.
func lockDir(ctx context.Context, path string) (*os.File, error) {
	for {
		dir, err := openDir(path)
		if err != nil {
			return nil, err
		}
		if dir == nil {
			continue
		}
		if err := flock.Lock(ctx, dir); err != nil {
			dir.Close()
			return nil, err
		}
		if ours, err := flock.Names(path, dir); ours {
			return dir, nil
		} else if dir.Close(); err != nil {
			return nil, err
		}
	}
}

// tryLockDir is the same for one who does not wait: nil if somebody holds the lock,
// or has just removed or renamed the directory.
func tryLockDir(path string) (*os.File, error) {
	dir, err := openDir(path)
	if dir == nil || err != nil {
		return nil, err
	}
	ours, err := flock.Try(dir)
	if ours {
		ours, err = flock.Names(path, dir)
	}
	if !ours {
		dir.Close()
		return nil, err
	}
	return dir, nil
}

// openDir opens a directory, made if missing; nil if somebody has removed it that
// very moment.
func openDir(path string) (*os.File, error) {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	dir, err := os.OpenFile(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return dir, err
}
