package unpack

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// stagingPrefix begins the name of a staging directory. It lies beside DIR, so
// that what was made in it can be renamed to DIR.
const stagingPrefix = ".peel-"

// staging is the directory in which an image is put together:
//
//	.peel-XXXX/   0700, locked (flock) as long as its maker lives
//	    tree/     becomes DIR
//	    1/ 2/ …   the trees of the layers above the first, until they are merged
//	    trash/    what layers replace or white out
//
// It is removed on every way out but kill -9; then the next Image beside it finds
// it unlocked and removes it.
type staging struct {
	beside *os.File // the directory that holds both
	base   string   // DIR's name in it
	name   string   // the staging directory's
	dir    *os.File

	exists bool // DIR was there: an empty directory, or one to replace
	full   bool // and not empty
}

// newStaging makes the staging directory for dir.
func newStaging(dir string, force bool) (*staging, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	// The path is the caller's own, links in it are meant. DIR itself may be one,
	// to a directory that is there: that one is it.
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	if dir == "/" {
		return nil, &fs.PathError{Op: "unpack", Path: dir, Err: ErrMountPoint}
	}
	// The caller need not be able to read it: write and search are enough.
	beside, err := os.OpenFile(filepath.Dir(dir), unix.O_PATH|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &ParentError{Path: filepath.Dir(dir), Err: unix.ENOENT}
	}
	if err != nil {
		return nil, err
	}
	st := &staging{beside: beside, base: filepath.Base(dir)}
	err = st.look(force)
	if err == nil && st.full {
		err = mountBelow(dir)
	}
	if err != nil {
		beside.Close()
		return nil, &fs.PathError{Op: "unpack", Path: dir, Err: err}
	}
	st.sweep()
	if err := st.make(); err != nil {
		beside.Close()
		return nil, fmt.Errorf("staging directory in %s: %w", filepath.Dir(dir), err)
	}
	return st, nil
}

// look finds out what is at DIR.
func (st *staging) look(force bool) error {
	var at, up unix.Stat_t
	err := unix.Fstatat(st.parent(), st.base, &at, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err == nil {
		err = unix.Fstat(st.parent(), &up)
	}
	switch {
	case err != nil:
		return err
	case at.Mode&unix.S_IFMT != unix.S_IFDIR:
		return ErrNotDirectory
	case at.Dev != up.Dev:
		return ErrMountPoint
	}
	st.exists = true
	fd, err := unix.Openat(st.parent(), st.base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	errFound := errors.New("found")
	err = eachEntry(fd, func(dirent) error { return errFound })
	st.full = err == errFound
	switch {
	case st.full && !force:
		return ErrNotEmpty
	case st.full:
		return nil
	}
	return err
}

// mountBelow finds a mount in the directory dir, a path without links: replacing
// dir would remove all that is in there.
func mountBelow(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		// proc_pid_mountinfo(5): the fifth field, with blanks as octal escapes.
		if f := strings.Fields(line); len(f) > 4 {
			point := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(f[4])
			if strings.HasPrefix(point, dir+"/") {
				return fmt.Errorf("%s in it %w", strings.TrimPrefix(point, dir+"/"), ErrMountPoint)
			}
		}
	}
	return nil
}

func (st *staging) parent() int { return int(st.beside.Fd()) }
func (st *staging) fd() int     { return int(st.dir.Fd()) }

// make creates the directory and locks it. Between the two another process could
// take it for an abandoned one: then it is gone or locked, and the next name is
// tried.
func (st *staging) make() error {
	for range 100 {
		name := stagingPrefix + strings.ToLower(rand.Text()[:10])
		if err := unix.Mkdirat(st.parent(), name, 0o700); err != nil {
			if errors.Is(err, unix.EEXIST) {
				continue
			}
			return err
		}
		dir, err := lockDir(st.parent(), name)
		if err != nil {
			return errors.Join(err, unix.Unlinkat(st.parent(), name, unix.AT_REMOVEDIR))
		}
		if dir == nil {
			continue
		}
		st.name, st.dir = name, dir
		if err := st.disinherit(); err != nil {
			return errors.Join(err, st.remove())
		}
		return nil
	}
	return unix.EEXIST
}

// disinherit takes away what the directory got from the one above it: a set-gid
// bit and default ACL would go on to every file of the image.
func (st *staging) disinherit() error {
	const aclDefault = "system.posix_acl_default"
	err := unix.Fremovexattr(st.fd(), aclDefault)
	if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) {
		return err
	}
	if err := unix.Fchown(st.fd(), -1, unix.Getegid()); err != nil {
		return err
	}
	return unix.Fchmod(st.fd(), 0o700)
}

// lockDir opens and locks the directory at name. It returns nil if somebody holds
// the lock or the directory is not at name any more.
func lockDir(parent int, name string) (*os.File, error) {
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	dir := os.NewFile(uintptr(fd), name)
	var held, there unix.Stat_t
	err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		err = unix.Fstat(fd, &held)
	}
	if err == nil {
		err = unix.Fstatat(parent, name, &there, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err == nil && held.Dev == there.Dev && held.Ino == there.Ino {
		return dir, nil
	}
	dir.Close()
	if err == nil || errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	return nil, err
}

// sweep removes staging directories whose makers were killed. What cannot be
// removed is left: it is somebody else's, or another sweep is at it. In a directory
// that cannot be read, none is found.
func (st *staging) sweep() {
	parent, err := unix.Openat(st.parent(), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(parent)
	_ = eachEntry(parent, func(e dirent) error {
		name := e.text()
		var at unix.Stat_t
		if e.typ != unix.DT_DIR || !strings.HasPrefix(name, stagingPrefix) ||
			unix.Fstatat(st.parent(), name, &at, unix.AT_SYMLINK_NOFOLLOW) != nil ||
			at.Uid != uint32(unix.Geteuid()) || at.Mode&0o7777 != 0o700 {
			return nil
		}
		if dir, err := lockDir(st.parent(), name); err == nil && dir != nil {
			_ = removeAt(st.parent(), name)
			dir.Close()
		}
		return nil
	})
}

// mkdir makes a directory in the staging directory and opens it, O_PATH.
func (st *staging) mkdir(path string) (int, error) {
	err := unix.Mkdirat(st.fd(), path, 0o700)
	fd := -1
	if err == nil {
		fd, err = unix.Openat(st.fd(), path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		err = fmt.Errorf("staging directory %s/%s: %w", st.name, path, err)
	}
	return fd, err
}

// publish renames tree to DIR: all of it appears, or nothing.
func (st *staging) publish() error {
	err := st.rename()
	if err != nil {
		return fmt.Errorf("rename to %s: %w", st.base, err)
	}
	return nil
}

func (st *staging) rename() error {
	if !st.exists {
		err := renameNoReplace(st.fd(), "tree", st.parent(), st.base)
		if errors.Is(err, unix.EEXIST) {
			return ErrNotEmpty // it has appeared meanwhile
		}
		return err
	}
	if !st.full {
		// rename(2) replaces an empty directory, and none that is not.
		err := unix.Renameat(st.fd(), "tree", st.parent(), st.base)
		if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTEMPTY) {
			return ErrNotEmpty
		}
		return err
	}
	// The old one goes to where the new one was, and with the staging directory.
	err := unix.Renameat2(st.fd(), "tree", st.parent(), st.base, unix.RENAME_EXCHANGE)
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	// A file system that cannot exchange: for a moment there is no DIR.
	if err := unix.Renameat(st.parent(), st.base, st.fd(), "old"); err != nil {
		return err
	}
	if err := unix.Renameat(st.fd(), "tree", st.parent(), st.base); err != nil {
		return errors.Join(err, unix.Renameat(st.fd(), "old", st.parent(), st.base))
	}
	return nil
}

// renameNoReplace renames where nothing is; EEXIST otherwise.
func renameNoReplace(fromDir int, from string, dir int, name string) error {
	err := unix.Renameat2(fromDir, from, dir, name, unix.RENAME_NOREPLACE)
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	// A file system that does not know the flag (renameat2(2)).
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil {
		return unix.EEXIST
	}
	return unix.Renameat(fromDir, from, dir, name)
}

// remove removes the staging directory with all that is still in it.
func (st *staging) remove() error {
	err := empty(st.fd())
	if rmErr := unix.Unlinkat(st.parent(), st.name, unix.AT_REMOVEDIR); err == nil {
		err = rmErr
	}
	// Not before it is gone: the lock is what keeps others away.
	st.dir.Close()
	st.beside.Close()
	return err
}
