package export

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// The steps that trees of tests are made of. Each takes the tree's root.
type step func(dir string) error

func mkdir(name string, mode uint32) step {
	return func(dir string) error {
		if err := unix.Mkdir(dir+"/"+name, 0o700); err != nil {
			return err
		}
		return unix.Chmod(dir+"/"+name, mode)
	}
}

func file(name string, mode uint32, data string) step {
	return func(dir string) error {
		if err := os.WriteFile(dir+"/"+name, []byte(data), 0o600); err != nil {
			return err
		}
		return unix.Chmod(dir+"/"+name, mode)
	}
}

func symlink(name, target string) step {
	return func(dir string) error { return os.Symlink(target, dir+"/"+name) }
}

func link(name, target string) step {
	return func(dir string) error {
		return unix.Linkat(unix.AT_FDCWD, dir+"/"+target, unix.AT_FDCWD, dir+"/"+name, 0)
	}
}

func node(name string, mode uint32, major, minor uint32) step {
	return func(dir string) error {
		if err := unix.Mknod(dir+"/"+name, mode, int(unix.Mkdev(major, minor))); err != nil {
			return err
		}
		return unix.Chmod(dir+"/"+name, mode&0o7777)
	}
}

func own(name string, uid, gid int) step {
	return func(dir string) error { return os.Lchown(dir+"/"+name, uid, gid) }
}

func setxattr(name, attr, value string) step {
	return func(dir string) error { return unix.Lsetxattr(dir+"/"+name, attr, []byte(value), 0) }
}

// tree makes a tree whose files were all changed at the same time. Skips if this
// machine lacks what a step needs.
func tree(t testing.TB, steps ...step) string {
	t.Helper()
	dir := t.TempDir()
	for i, s := range steps {
		err := s(dir)
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOTSUP) {
			t.Skipf("step %d needs root, or a file system with attributes: %v", i, err)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	setTimes(t, dir, 1e9)
	return dir
}

func setTimes(t testing.TB, dir string, sec int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		ts := []unix.Timespec{{Sec: sec}, {Sec: sec}}
		return unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, unix.AT_SYMLINK_NOFOLLOW)
	})
	if err != nil {
		t.Fatal(err)
	}
}
