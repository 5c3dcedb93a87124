package unpack

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestWhereDirIsWhat holds what becomes of a DIR that is there already.
func TestWhereDirIsWhat(t *testing.T) {
	for _, c := range []struct {
		name  string
		make  func(dir string) error
		force bool
		want  error
		after string // beside a file "new" in it, and what else is in the parent
	}{
		{"nothing", func(string) error { return nil }, false, nil, "d"},
		{"an empty directory", func(d string) error { return os.Mkdir(d, 0o700) }, false, nil, "d"},
		{"a directory with something in it", full, false, ErrNotEmpty, "d"},
		{"the same, by force", full, true, nil, "d"},
		{"an empty directory, by force", func(d string) error { return os.Mkdir(d, 0o700) }, true, nil, "d"},
		{"a file", func(d string) error { return os.WriteFile(d, nil, 0o600) }, false, ErrNotDirectory, "d"},
		{"a file, by force", func(d string) error { return os.WriteFile(d, nil, 0o600) }, true, ErrNotDirectory, "d"},
		{"a dangling link", func(d string) error { return os.Symlink("nowhere", d) }, true, ErrNotDirectory, "d"},
		{"a link to an empty directory", func(d string) error {
			return errors.Join(os.Mkdir(d+"2", 0o700), os.Symlink("d2", d))
		}, false, nil, "d d2"},
		{"no parent", func(d string) error { return os.Remove(filepath.Dir(d)) }, false, os.ErrNotExist, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			parent := filepath.Join(workDir(t), "parent")
			must(os.Mkdir(parent, 0o755))
			dir := filepath.Join(parent, "d")
			must(c.make(dir))
			src, img := imageOfText("file new 1")
			_, err := Image(context.Background(), src, img, dir, Options{Form: Rootfs, Force: c.force})
			if !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if c.after == "" {
				return
			}
			names := namesIn(parent)
			if got := filepath.Join(names...); got != filepath.Join(split2(c.after)...) {
				t.Errorf("in the parent: %v, want %s", names, c.after)
			}
			if _, statErr := os.Stat(filepath.Join(dir, "new")); (statErr == nil) != (err == nil) {
				t.Errorf("new: %v", statErr)
			}
			if _, statErr := os.Stat(filepath.Join(dir, "old")); statErr == nil && err == nil {
				t.Error("old is still there")
			}
		})
	}
}

func split2(s string) []string { return fields(s) }

func full(d string) error {
	return errors.Join(os.MkdirAll(filepath.Join(d, "sub"), 0o755), os.WriteFile(filepath.Join(d, "old"), nil, 0o600), os.Chmod(filepath.Join(d, "sub"), 0))
}

func TestAMountPointIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	mnt := t.TempDir()
	if err := unix.Mount("tmpfs", mnt, "tmpfs", 0, ""); err != nil {
		t.Skipf("SKIPPED: needs to mount a tmpfs: %v", err)
	}
	defer unix.Unmount(mnt, unix.MNT_DETACH)
	src, img := imageOfText("file new 1")
	for _, dir := range []string{mnt, "/"} {
		if _, err := Image(context.Background(), src, img, dir, Options{}); !errors.Is(err, ErrMountPoint) {
			t.Errorf("%s: %v, want ErrMountPoint", dir, err)
		}
	}
}

func TestOfTwoAtOnceOneWins(t *testing.T) {
	work := workDir(t)
	src, img := sampleImage()
	dir := filepath.Join(work, "d")
	errs := make([]error, 4)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { _, errs[i] = Image(context.Background(), src, img, dir, Options{Form: Rootfs}) })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else if !errors.Is(err, ErrNotEmpty) {
			t.Error(err)
		}
	}
	if names := namesIn(work); won != 1 || len(names) != 1 {
		t.Errorf("%d have won; there is %v", won, names)
	}
}

func TestABundleAppearsFinishedOrNotAtAll(t *testing.T) {
	work := workDir(t)
	src, img := imageOfText("dir etc; file etc/passwd root", "file etc/group g")
	dir := filepath.Join(work, "b")
	errNo := errors.New("no")
	_, err := Image(context.Background(), src, img, dir, Options{Finish: func(_, _ *os.File) error { return errNo }})
	if !errors.Is(err, errNo) {
		t.Errorf("%v, want what Finish returned", err)
	}
	nothingIn(t, work)

	finish := func(bundle, rootfs *os.File) error {
		root := os.DirFS("/proc/self/fd/" + filepath.Base(procPath(int(rootfs.Fd()))))
		passwd, err := root.Open("etc/passwd")
		if err != nil {
			return err
		}
		passwd.Close()
		if _, err := os.Lstat(dir); !os.IsNotExist(err) {
			return errors.New("DIR is there before its time")
		}
		return os.WriteFile(procPath(int(bundle.Fd()))+"/config.json", []byte("{}"), 0o644)
	}
	if _, err := Image(context.Background(), src, img, dir, Options{Finish: finish}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"config.json", "rootfs/etc/passwd", "rootfs/etc/group"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}
