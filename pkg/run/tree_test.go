package run

import (
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sharingRuntime is a runtime whose images have a key, where the kernel copies mounts
// that are attached nowhere.
func sharingRuntime(t *testing.T, key string) (rt *Runtime, root Rootfs, opened *int) {
	t.Helper()
	needRoot(t)
	dir := newRootfs(t, map[string]string{"etc/motd": "image"})
	rt, root, opened = imageRuntime(t, dir)
	rt.findImage = func(Image) (Source, error) { return &dirSource{dir: dir, key: key, opened: opened}, nil }
	m, err := (&dirSource{dir: dir, opened: new(int)}).Tree()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	clone, err := m.Clone()
	if err != nil {
		t.Skip("SKIPPED: needs Linux 6.15, which copies mounts that are attached nowhere: ", err)
	}
	clone.Close()
	return rt, root, opened
}

func startWaiting(t *testing.T, rt *Runtime, root Rootfs) *Container {
	t.Helper()
	c, err := rt.Create(t.Context(), root, probeSpec(t, "wait"), CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.StartDetached(); err != nil {
		t.Fatal(err)
	}
	waitForLine(t, c, "ready")
	if _, out, err := execOutput(t, c, ExecOptions{}, "cat", "/etc/motd"); out != "image" || err != nil {
		t.Errorf("read %q, %v", out, err)
	}
	return c
}

func stop(t *testing.T, c *Container) {
	t.Helper()
	if err := c.Stop(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
}

func TestAnImageIsMountedOnceForThoseWhoRun(t *testing.T) {
	rt, root, opened := sharingRuntime(t, "key")
	want := func(n int, when string) {
		t.Helper()
		if *opened != n {
			t.Errorf("%s: mounted %d times, want %d", when, *opened, n)
		}
	}
	one := startWaiting(t, rt, root)
	two := startWaiting(t, rt, root)
	want(1, "two that run")
	stop(t, one)
	three := startWaiting(t, rt, root)
	want(1, "the one that had it first has ended")
	stop(t, two)
	stop(t, three)
	if err := two.StartDetached(); err != nil {
		t.Fatal(err)
	}
	waitForLine(t, two, "ready")
	want(2, "none ran any more")
	stop(t, two)
	for _, c := range []*Container{one, two, three} {
		if _, err := os.Lstat(rt.treeLink(c.ID)); !os.IsNotExist(err) {
			t.Errorf("a loan is left: %v", err)
		}
	}
}

func TestImagesWithoutAKeyAreNotShared(t *testing.T) {
	rt, root, opened := sharingRuntime(t, "")
	stop(t, startWaiting(t, rt, root))
	one, two := startWaiting(t, rt, root), startWaiting(t, rt, root)
	if *opened != 3 {
		t.Errorf("mounted %d times for three runs", *opened)
	}
	stop(t, one)
	stop(t, two)
}

func TestALoanThatIsOverIsNotTaken(t *testing.T) {
	rt, root, _ := sharingRuntime(t, "key")
	m, err := rt.open(*root.Image)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	c, err := rt.Create(t.Context(), root, probeSpec(t, "wait"), CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	lock, err := c.lock()
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	kept := c.lend(m)
	if kept == nil {
		t.Fatal("nothing is lent")
	}
	text, err := os.Readlink(rt.treeLink(c.ID))
	if err != nil {
		t.Fatal(err)
	}
	good, ok := parseLoan(text)
	if !ok || good.String() != text {
		t.Fatalf("%q is read as %v", text, good)
	}
	other, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, l := range []struct {
		name, text, key string
		want            bool
	}{
		{"as it was lent", text, "key", true},
		{"to one who wants another image", text, "ey", false},
		{"by a process that is gone, and whose pid another one has", loan{good.pid, good.birth - 1, good.fd, good.dev, good.ino, "key"}.String(), "key", false},
		{"of a descriptor that is another directory's now", loan{good.pid, good.birth, int(other.Fd()), good.dev, good.ino, "key"}.String(), "key", false},
		{"of a descriptor that is closed", loan{good.pid, good.birth, 1 << 20, good.dev, good.ino, "key"}.String(), "key", false},
		{"a text that says nothing", "x:key", "key", false},
		{"a text with a number that is none", fmt.Sprintf("%d:%d:x:1:1:key", good.pid, good.birth), "key", false},
	} {
		if err := os.Remove(rt.treeLink(c.ID)); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(l.text, rt.treeLink(c.ID)); err != nil {
			t.Fatal(err)
		}
		got := rt.borrow(l.key)
		if (got != nil) != l.want {
			t.Errorf("%s: borrowed %v", l.name, got != nil)
		}
		if got != nil {
			got.Close()
		}
	}
	if err := c.takeBack(kept); err != nil {
		t.Error(err)
	}
	if got := rt.borrow("key"); got != nil {
		t.Error("borrowed what was taken back")
	}
}

func TestABorrowedMountCannotBeWrittenTo(t *testing.T) {
	rt, root, _ := sharingRuntime(t, "key")
	c := startWaiting(t, rt, root)
	defer stop(t, c)
	m := rt.borrow("key")
	if m == nil {
		t.Fatal("nothing is lent")
	}
	defer m.Close()
	err := m.Do(func(fd int) error { return unix.Mkdirat(fd, "new", 0o755) })
	if err != unix.EROFS {
		t.Errorf("mkdir: %v", err)
	}
}
