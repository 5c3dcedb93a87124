package guest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func newTestRoot(t *testing.T) (rootDir, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "root")
	if err := os.MkdirAll(filepath.Join(dir, "a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"abs": "/a", "up": "../../../../a", "out": "/../../x", "magic": "/proc/self/root", "loop": "loop", "nowhere": "/gone"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return newRootDir(fd), dir
}

func TestDirectoriesAreMadeInsideTheRoot(t *testing.T) {
	for _, c := range []struct{ name, path, made string }{
		{"new below an old one", "/a/b/c/d", "a/b/c/d"},
		{"through an absolute link", "/abs/b/c", "a/b/c"},
		{"through a link that climbs", "/up/x", "a/x"},
		{"one that is there", "/a/b", "a/b"},
		{"dots in the path", "/../../a/./x/../y", "a/y"},
		{"the root itself", "/", "."},
	} {
		root, dir := newTestRoot(t)
		fd, err := root.mkdirAll(c.path)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var got, want unix.Stat_t
		if err := errors.Join(unix.Fstat(fd, &got), unix.Stat(filepath.Join(dir, c.made), &want)); err != nil || got.Ino != want.Ino {
			t.Errorf("%s: not %s: %v", c.name, c.made, err)
		}
		unix.Close(fd)
	}
}

func TestLinksThatLeadNowhereAreErrors(t *testing.T) {
	root, dir := newTestRoot(t)
	for path, want := range map[string]error{"/nowhere/x": unix.ENOTDIR, "/nowhere": unix.ENOTDIR, "/loop/x": unix.ELOOP} {
		if _, err := root.mkdirAll(path); err != want {
			t.Errorf("%s: error %v, want %v", path, err, want)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "gone")); err == nil {
		t.Error("the target of a dangling link was made")
	}
	if _, err := root.openStrict("/abs/b", unix.O_PATH); err != unix.ELOOP {
		t.Errorf("strict through a link: %v", err)
	}
}

func TestOnlyRegularFilesAreRead(t *testing.T) {
	root, dir := newTestRoot(t)
	proc, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(proc)
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{"/pipe": errNotRegular, "/a": errNotRegular, "/none": unix.ENOENT, "/file": nil} {
		f, err := root.openRegular(proc, name)
		if !errors.Is(err, want) {
			t.Errorf("%s: error %v, want %v", name, err, want)
		}
		if f != nil {
			f.Close()
		}
	}
}
