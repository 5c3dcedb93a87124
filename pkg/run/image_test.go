package run

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"peel/internal/beneath"
	"peel/internal/detached"
)

// imageRuntime is a runtime whose images are one directory, mounted as those of a
// cache are.
func imageRuntime(t *testing.T, dir string) (rt *Runtime, root Rootfs, opened *int) {
	t.Helper()
	rt, opened = newRuntime(t), new(int)
	want := Image{digest.FromString("manifest"), []digest.Digest{digest.FromString("layer")}}
	rt.findImage = func(i Image) (Source, error) {
		if i.Manifest != want.Manifest || len(i.DiffIDs) != 1 || i.DiffIDs[0] != want.DiffIDs[0] {
			t.Errorf("asked for %v", i)
		}
		return &dirSource{dir: dir, opened: opened}, nil
	}
	return rt, Rootfs{Image: &want}, opened
}

// dirSource mounts a directory and counts how often.
type dirSource struct {
	dir, key string
	opened   *int
}

func (d *dirSource) Key() string  { return d.key }
func (d *dirSource) Close() error { return nil }

func (d *dirSource) Tree() (*detached.Mount, error) {
	*d.opened++
	fd, err := unix.OpenTree(unix.AT_FDCWD, d.dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, err
	}
	ro := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	return detached.New(fd, d.dir), unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &ro)
}

// mountsWith are the mounts of this process that have word in their description.
func mountsWith(t *testing.T, word string) []string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, word) {
			found = append(found, line)
		}
	}
	return found
}

func TestContainersOfAnImageChangeOnlyTheirOwn(t *testing.T) {
	needRoot(t)
	for _, ownUserNS := range []bool{false, true} {
		dir := newRootfs(t, map[string]string{"etc/motd": "image", "etc/gone": "x"})
		if err := errors.Join(os.Chmod(dir, 0o751|os.ModeSticky), os.Chown(dir, 7, 8)); err != nil {
			t.Fatal(err)
		}
		rt, root, _ := imageRuntime(t, dir)
		create := func(args ...string) *Container {
			t.Helper()
			s := probeSpec(t, args...)
			if ownUserNS {
				mapTo(s, 0)
			}
			c, err := rt.Create(t.Context(), root, s, CreateOptions{Files: map[string]string{"/etc/hosts": "own file"}})
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		one, two := create("wait"), create("wait")
		for _, c := range []*Container{one, two} {
			if err := c.StartDetached(); err != nil {
				t.Fatal(err)
			}
			waitForLine(t, c, "ready")
		}
		if _, out, err := execOutput(t, one, ExecOptions{}, "write", "/etc/motd", " and one"); out != "" || err != nil {
			t.Errorf("user namespace %v: write: %q, %v", ownUserNS, out, err)
		}
		for c, want := range map[*Container]string{one: "image and oneown file", two: "imageown file"} {
			if _, out, err := execOutput(t, c, ExecOptions{}, "cat", "/etc/motd", "/etc/hosts"); out != want || err != nil {
				t.Errorf("user namespace %v: read %q, %v; want %q", ownUserNS, out, err, want)
			}
			live, err := c.OpenRoot()
			if err != nil {
				t.Fatal(err)
			}
			var st unix.Stat_t
			if err := unix.Fstat(int(live.Fd()), &st); err != nil {
				t.Fatal(err)
			}
			live.Close()
			if st.Mode&0o7777 != 0o1751 || st.Uid != 7 || st.Gid != 8 {
				t.Errorf("user namespace %v: the root is %o of %d:%d", ownUserNS, st.Mode, st.Uid, st.Gid)
			}
		}
		if b, _ := os.ReadFile(filepath.Join(dir, "etc/motd")); string(b) != "image" {
			t.Errorf("user namespace %v: the image was changed to %q", ownUserNS, b)
		}
		if _, err := os.Stat(filepath.Join(dir, "dev/pts")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("user namespace %v: places of mounts were made in the image", ownUserNS)
		}
		if m := mountsWith(t, rt.data); len(m) > 0 {
			t.Errorf("user namespace %v: the host sees %q", ownUserNS, m)
		}
	}
}

func TestAnImageIsOpenedForEachStart(t *testing.T) {
	needRoot(t)
	dir := newRootfs(t, map[string]string{"etc/motd": "image"})
	rt, root, opened := imageRuntime(t, dir)
	tree, err := rt.open(*root.Image)
	if err != nil {
		t.Fatal(err)
	}
	c, err := rt.Create(t.Context(), root, probeSpec(t, "write", "/etc/motd", "+"), CreateOptions{Tree: tree})
	if err := errors.Join(err, tree.Close()); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 3; n++ { // the first with the caller's tree
		p, err := c.Start(Streams{})
		if err != nil {
			t.Fatal(err)
		}
		if code, err := p.Wait(); code != 0 || err != nil {
			t.Fatalf("run %d: exit code %d, %v", n, code, err)
		}
		if *opened != n {
			t.Errorf("opened %d times for %d runs", *opened, n)
		}
	}
	again, err := rt.Get(c.ID) // as another process finds it
	if err != nil {
		t.Fatal(err)
	}
	stopped, err := again.OpenRoot()
	if err != nil {
		t.Fatal(err)
	}
	defer stopped.Close()
	f, err := beneath.New(stopped).Open("etc/motd", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 20)
	if n, _ := f.Read(b); string(b[:n]) != "image+++" {
		t.Errorf("read %q from the stopped one", b[:n])
	}
	if err := unix.Mkdirat(int(stopped.Fd()), "new", 0o755); err != unix.EROFS {
		t.Errorf("the root of a stopped container can be written to: %v", err)
	}
	if m := mountsWith(t, rt.data); len(m) > 0 {
		t.Errorf("the host sees %q", m)
	}
}

func TestAnImageThatIsGoneIsSaidSo(t *testing.T) {
	needRoot(t)
	rt, root, _ := imageRuntime(t, newRootfs(t, nil))
	c, err := rt.Create(t.Context(), root, probeSpec(t, "print", "x"), CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if c, err = rt.Get(c.ID); err != nil {
		t.Fatal(err)
	}
	errGone := errors.New("gone")
	rt.findImage = func(Image) (Source, error) { return nil, errGone }
	_, startErr := c.Start(Streams{})
	_, openErr := c.OpenRoot()
	_, createErr := rt.Create(t.Context(), root, probeSpec(t), CreateOptions{})
	for what, err := range map[string]error{"start": startErr, "start detached": c.StartDetached(), "open root": openErr, "create": createErr} {
		if !errors.Is(err, errGone) || !strings.Contains(err.Error(), root.Image.Manifest.String()) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if s := status(t, c); s.Phase != Created {
		t.Errorf("status %v", s)
	}
	if left, _ := filepath.Glob(filepath.Join(rt.containers(), ".new-*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestAKilledMonitorLeavesNoMount(t *testing.T) {
	needRoot(t)
	rt, root, _ := imageRuntime(t, newRootfs(t, nil))
	c, err := rt.Create(t.Context(), root, probeSpec(t, "wait"), CreateOptions{AutoRemove: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.StartDetached(); err != nil {
		t.Fatal(err)
	}
	waitForLine(t, c, "ready")
	pid := status(t, c).Pid
	monitor := parentOf(t, pid)
	fd, err := unix.PidfdOpen(monitor, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
		t.Fatal(err)
	}
	if err := waitPidfd(t.Context(), fd); err != nil {
		t.Fatal(err)
	}
	if m := mountsWith(t, rt.data); len(m) > 0 {
		t.Errorf("the host sees %q", m)
	}
	// Nobody has removed it. It starts again with what it has changed, although
	// nothing of that was ever synced.
	if _, out, err := execOutput(t, c, ExecOptions{}, "write", "/changed", "yes"); out != "" || err != nil {
		t.Errorf("write: %q, %v", out, err)
	}
	if err := c.Stop(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := c.StartDetached(); err != nil {
		t.Fatal(err)
	}
	if _, out, err := execOutput(t, c, ExecOptions{}, "cat", "/changed"); out != "yes" || err != nil {
		t.Errorf("read: %q, %v", out, err)
	}
	if err := c.Remove(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if m := mountsWith(t, rt.data); len(m) > 0 {
		t.Errorf("the host sees %q", m)
	}
	if left, _ := os.ReadDir(rt.containers()); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
