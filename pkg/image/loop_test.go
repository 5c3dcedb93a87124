package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"peel/e2e/tree"
	"peel/internal/detached"
)

// loopsOf are the loop devices whose files lie below dir.
func loopsOf(t *testing.T, dir string) (found []string) {
	t.Helper()
	all, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range all {
		b, err := os.ReadFile(name)
		if err == nil && strings.HasPrefix(string(b), dir) {
			found = append(found, strings.Split(name, "/")[3])
		}
	}
	return found
}

// noLoopsLeft waits until the kernel has freed all of them, which it does by itself.
func noLoopsLeft(t *testing.T, dir string) {
	t.Helper()
	tick, deadline := time.NewTicker(time.Millisecond), time.After(time.Minute)
	defer tick.Stop()
	for {
		left := loopsOf(t, dir)
		if len(left) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("loop devices are left: %v", left)
		}
	}
}

// onLoops is a host on which files cannot be mounted as they are.
func onLoops(t *testing.T) host {
	t.Helper()
	if _, err := newHost(); err != nil {
		t.Skip("SKIPPED: ", err)
	}
	c := open(t)
	src, img := imageOf(t, tarOf(t, file("a", "1")))
	p := prepare(t, c, src, img)
	m, err := host{}.mount(p.Index, p.Devices)
	var u *UnsupportedError
	if errors.As(err, &u) {
		t.Skip("SKIPPED: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
	noLoopsLeft(t, c.root)
	return host{}
}

func listBy(t *testing.T, h host, p *Prepared, while func()) tree.Tree {
	t.Helper()
	m, err := h.mount(p.Index, p.Devices)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var got tree.Tree
	if err := m.Do(func(fd int) (err error) {
		got, err = tree.List(fmt.Sprintf("/proc/self/fd/%d/", fd))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	while()
	return got
}

func TestAnImageOnLoopDevicesIsWhatUnpackingMakes(t *testing.T) {
	h := onLoops(t)
	c := open(t)
	tars := layersOf(t)
	src, img := imageOf(t, append(tars, tars[0])...) // one of them twice
	p := prepare(t, c, src, img)
	got := listBy(t, h, p, func() {
		loops := loopsOf(t, c.root)
		if want := 1 + len(p.Devices); len(loops) != want {
			t.Errorf("%d loop devices, want %d", len(loops), want)
		}
		for _, l := range loops {
			for file, want := range map[string]string{"ro": "1", "loop/autoclear": "1", "loop/dio": "0", "queue/logical_block_size": "512"} {
				b, err := os.ReadFile("/sys/block/" + l + "/" + file)
				if err != nil || strings.TrimSpace(string(b)) != want {
					t.Errorf("%s of %s is %q, %v; want %s", file, l, b, err, want)
				}
			}
		}
	})
	compare(t, unpacked(t, src, img), got)
	noLoopsLeft(t, c.root)
}

func TestAFailedMountLeavesNoLoopDevice(t *testing.T) {
	h := onLoops(t)
	c := open(t)
	src, img := imageOf(t, layersOf(t)...)
	p := prepare(t, c, src, img)
	for name, change := range map[string]func(*Prepared) error{
		"a device that is gone":    func(p *Prepared) error { p.Devices[1] += "x"; return nil },
		"an index that is no such": func(p *Prepared) error { return flip(p.Index, 1024) },
	} {
		broken := *p
		broken.Devices = append([]string(nil), p.Devices...)
		if err := change(&broken); err != nil {
			t.Fatal(err)
		}
		if m, err := h.mount(broken.Index, broken.Devices); err == nil {
			m.Close()
			t.Errorf("%s: mounted", name)
		}
		noLoopsLeft(t, c.root)
	}
}

func TestManyTakeLoopDevicesAtOnce(t *testing.T) {
	h := onLoops(t)
	c := open(t)
	src, img := imageOf(t, layersOf(t)...)
	p := prepare(t, c, src, img)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			m, err := h.mount(p.Index, p.Devices)
			if err != nil {
				t.Error(err)
				return
			}
			defer m.Close()
			if err := m.Do(func(fd int) error { return unix.Faccessat(fd, "usr/bin/sh", unix.F_OK, 0) }); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	noLoopsLeft(t, c.root)
}

// On a file system whose files cannot be mounted, a loop device steps in.
func TestAStoreInMemoryTakesLoopDevices(t *testing.T) {
	h := onLoops(t)
	h.files = since(release(t), 6, 13)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16m"); err != nil {
		t.Skip("SKIPPED: needs to mount a tmpfs: ", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	src, img := imageOf(t, layersOf(t)...)
	p := prepare(t, c, src, img)
	compare(t, unpacked(t, src, img), listBy(t, h, p, func() {}))
	noLoopsLeft(t, dir)
}

func release(t *testing.T) string {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	return unix.ByteSliceToString(u.Release[:])
}

func BenchmarkMount(b *testing.B) {
	if _, err := newHost(); err != nil {
		b.Skip("SKIPPED: ", err)
	}
	c := open(b)
	src, img := imageOf(b, layersOf(b)...)
	p := prepare(b, c, src, img)
	for name, mount := range map[string]func(string, []string) (*detached.Mount, error){"files": mountFiles, "loops": mountLoops} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				m, err := mount(p.Index, p.Devices)
				if err != nil {
					b.Skip("SKIPPED: ", err)
				}
				m.Close()
			}
		})
	}
}
