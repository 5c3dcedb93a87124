package layout

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"peel/internal/flock"
)

const (
	// stagingPrefix is that of package unpack: each removes what killed processes
	// have left of either.
	stagingPrefix = ".peel-"
	stagingRandom = 10 // letters and digits behind it

	// A layer has set-id programs and the users' passwords in it. What keeps other
	// users away is the mode of a new layout's directory, which its owner may change.
	layoutMode = 0o700
	dirMode    = 0o755
	blobMode   = 0o644
)

// New begins an image for the layout at target, which may be there or not; or
// else ErrNotLayout. The caller must Close the Stage.
func New(target string) (*Stage, error) {
	target = filepath.Clean(target)
	beside := filepath.Dir(target)
	info, err := os.Stat(target)
	switch {
	case err == nil && !info.IsDir():
		return nil, &fs.PathError{Op: "open", Path: target, Err: unix.ENOTDIR}
	case err == nil:
		if err := checkTarget(target); err != nil {
			return nil, err
		}
		beside = target // from where blobs can be renamed into it
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	s := &Stage{target: target}
	return s, s.make(beside)
}

// NewArchive begins an image that is only to be archived; its blobs lie in the
// directory beside meanwhile. The caller must Close the Stage.
func NewArchive(beside string) (*Stage, error) {
	s := &Stage{}
	return s, s.make(beside)
}

// checkTarget refuses a directory that holds something else than a layout.
func checkTarget(target string) error {
	err := checkMarker(target)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	names, err := os.ReadDir(target)
	if err != nil {
		return err
	}
	for _, e := range names {
		if !strings.HasPrefix(e.Name(), stagingPrefix) && e.Name() != "blobs" {
			return fmt.Errorf("%s %w", target, ErrNotLayout)
		}
	}
	return nil
}

func (s *Stage) make(beside string) error {
	sweep(beside)
	for range 100 {
		dir := filepath.Join(beside, stagingPrefix+strings.ToLower(rand.Text()[:stagingRandom]))
		if err := unix.Mkdir(dir, 0o700); err == unix.EEXIST {
			continue
		} else if err != nil {
			return &fs.PathError{Op: "write in", Path: beside, Err: err}
		}
		// Before it is locked, another process may take it for an abandoned one.
		lock, err := tryLock(dir)
		if err != nil {
			return errors.Join(err, os.Remove(dir))
		}
		if lock == nil {
			continue
		}
		s.dir, s.lock = dir, lock
		if err := makeTree(s.tree()); err != nil {
			return errors.Join(err, s.Close())
		}
		return nil
	}
	return &fs.PathError{Op: "write in", Path: beside, Err: fs.ErrExist}
}

// makeTree makes the directories of a layout, with modes that no umask changes.
func makeTree(layout string) error {
	for _, d := range []struct {
		path string
		mode fs.FileMode
	}{{layout, layoutMode}, {filepath.Dir(blobsIn(layout)), dirMode}, {blobsIn(layout), dirMode}} {
		if err := os.Mkdir(d.path, 0o700); err != nil {
			return err
		}
		if err := os.Chmod(d.path, d.mode); err != nil {
			return err
		}
	}
	return nil
}

// Close removes what has not been published. It may be called again.
func (s *Stage) Close() error {
	if s.lock == nil {
		return nil
	}
	// The lock goes last: it is what keeps others from removing the directory.
	err := errors.Join(os.RemoveAll(s.dir), s.lock.Close())
	s.lock = nil
	return err
}

// sweep removes the staging directories of killed processes. What cannot be removed
// is left: it is somebody else's, or another sweep is at it.
func sweep(dir string) {
	names, err := filepath.Glob(filepath.Join(escaped(dir), stagingPrefix+"*"))
	if err != nil {
		return
	}
	for _, path := range names {
		info, err := os.Lstat(path)
		if err != nil || len(info.Name()) != len(stagingPrefix)+stagingRandom || !info.IsDir() || info.Mode().Perm() != 0o700 || info.Sys().(*syscall.Stat_t).Uid != uint32(os.Geteuid()) {
			continue
		}
		if lock, err := tryLock(path); err == nil && lock != nil {
			_ = os.RemoveAll(path)
			lock.Close()
		}
	}
}

// escaped is a path as a pattern that matches it alone.
func escaped(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// tryLock locks a directory. It returns nil if somebody holds the lock, or has just
// removed or renamed the directory.
func tryLock(path string) (*os.File, error) {
	dir, err := os.OpenFile(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	ours, err := flock.Try(dir)
	if ours {
		ours, err = flock.Names(path, dir)
	}
	if ours {
		return dir, nil
	}
	dir.Close()
	return nil, err
}
