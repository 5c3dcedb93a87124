package detached

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// of is a mount of a directory with the file "there" in it.
func of(t *testing.T) *Mount {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "there"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if errors.Is(err, unix.EPERM) {
		t.Skip("SKIPPED: needs CAP_SYS_ADMIN, to mount")
	}
	if err != nil {
		t.Fatal(err)
	}
	return New(fd, dir)
}

func sees(t *testing.T, m *Mount, name string) bool {
	t.Helper()
	return m.Do(func(fd int) error { return unix.Faccessat(fd, name, unix.F_OK, 0) }) == nil
}

func TestTheDescriptorStaysOpenWhileItIsUsed(t *testing.T) {
	m := of(t)
	err := m.Do(func(fd int) error {
		runtime.GC() // nobody names m any more
		runtime.GC()
		return unix.Faccessat(fd, "there", unix.F_OK, 0)
	})
	if err != nil {
		t.Error(err)
	}
}

func TestAMountEndsWithItsLastDescriptor(t *testing.T) {
	m := of(t)
	again, err := m.Again()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil || !sees(t, again, "there") {
		t.Errorf("close: %v, or the mount ended with its first descriptor", err)
	}
	dir := t.TempDir()
	if err := again.Attach(dir); err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir + "/there"); err != nil {
		t.Errorf("an attached mount has ended: %v", err)
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Error(err)
	}
}

func TestACloneIsAnotherMountOfTheSame(t *testing.T) {
	m := of(t)
	defer m.Close()
	c, err := m.Clone()
	if errors.Is(err, unix.EINVAL) {
		t.Skip("SKIPPED: needs Linux 6.15, to clone a mount that is attached nowhere")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	one, two := t.TempDir(), t.TempDir()
	if err := errors.Join(m.Attach(one), c.Attach(two)); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(one, unix.MNT_DETACH)
	defer unix.Unmount(two, unix.MNT_DETACH)
	a, errA := os.Stat(one + "/there")
	b, errB := os.Stat(two + "/there")
	if err := errors.Join(errA, errB); err != nil || !os.SameFile(a, b) {
		t.Errorf("%v, or not the same file", err)
	}
}
