// Package flock takes the locks of flock(2), which belong to an open file: the
// kernel drops them with the last descriptor of it, however its process ended.
//
// A file that is locked may meanwhile have lost its name to another one. Where the
// name is what counts, who has the lock must ask Names.
package flock

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// poll is how often a lock that is held is tried again: who waits in flock(2) could
// not be told to give up.
const poll = 20 * time.Millisecond

// Lock takes the exclusive lock of f. It waits until nobody else has one, or until
// ctx ends: then the error is the context's cause.
func Lock(ctx context.Context, f *os.File) error {
	var tick *time.Ticker
	for {
		ok, err := Try(f)
		if ok || err != nil {
			return err
		}
		if tick == nil {
			tick = time.NewTicker(poll)
			defer tick.Stop()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Try takes the exclusive lock of f, and tells whether it has. A shared lock that f
// had is lost even if it has not: the kernel converts by letting go first.
func Try(f *os.File) (bool, error) {
	err := flock(f, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// Share takes a shared lock of f. It waits for who has the exclusive one, and cannot
// be told to give up.
func Share(f *os.File) error { return flock(f, unix.LOCK_SH) }

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return &fs.PathError{Op: "flock", Path: f.Name(), Err: err}
		}
	}
}

// Names tells whether path, which is not followed, is the name of f.
func Names(path string, f *os.File) (bool, error) {
	held, err := f.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(held, there), err
}
