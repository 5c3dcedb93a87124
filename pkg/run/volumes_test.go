package run

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func withVolume(s *specs.Spec, name, at string, options ...string) *specs.Spec {
	s.Mounts = append(s.Mounts, specs.Mount{Type: "volume", Source: name, Destination: at, Options: options})
	return s
}

func mustRun(t *testing.T, rt *Runtime, root string, s *specs.Spec) string {
	t.Helper()
	r := runOnce(t, rt, root, s, CreateOptions{})
	if r.err != nil || r.code != 0 {
		t.Fatalf("%+v: %v", r, r.err)
	}
	return r.stdout
}

func TestAVolumeBeginsWithWhatTheImageHasThere(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, map[string]string{"data/sub/file": "of the image", "data/link": "-> /etc/passwd", "data/bare/": ""})
	file := filepath.Join(root, "data/sub/file")
	for _, err := range []error{
		os.Chown(filepath.Join(root, "data"), 33, 44), os.Chmod(filepath.Join(root, "data"), os.ModeSticky|0o770),
		os.Chown(file, 7, 8), os.Chmod(file, os.ModeSetuid|0o640),
		unix.Setxattr(file, "security.capability", []byte("\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0),
		unix.Mkfifo(filepath.Join(root, "data/pipe"), 0o600), unix.Mknod(filepath.Join(root, "data/disk"), unix.S_IFBLK|0o600, 8<<8),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := mustRun(t, rt, root, withVolume(probeSpec(t, "cat", "/data/sub/file"), "v", "/data")); got != "of the image" {
		t.Fatalf("%q", got)
	}
	v, err := rt.Volume("v")
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	check := func(name string, uid, gid, mode uint32) {
		t.Helper()
		if err := unix.Lstat(filepath.Join(v.Dir, name), &st); err != nil || st.Uid != uid || st.Gid != gid || st.Mode != mode {
			t.Errorf("%s: %v, %d:%d %o; want %d:%d %o", name, err, st.Uid, st.Gid, st.Mode, uid, gid, mode)
		}
	}
	check("", 33, 44, unix.S_IFDIR|0o1770)
	check("sub/file", 7, 8, unix.S_IFREG|0o4640)
	check("bare", 0, 0, unix.S_IFDIR|0o755)
	check("pipe", 0, 0, unix.S_IFIFO|0o600)
	if n, err := unix.Getxattr(filepath.Join(v.Dir, "sub/file"), "security.capability", nil); n != 20 || err != nil {
		t.Errorf("file capability: %d, %v", n, err)
	}
	if to, err := os.Readlink(filepath.Join(v.Dir, "link")); to != "/etc/passwd" || err != nil {
		t.Errorf("link: %q, %v", to, err)
	}
	if _, err := os.Lstat(filepath.Join(v.Dir, "disk")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a device was copied: %v", err)
	}
	if _, err := unix.Getxattr(v.Dir, "user.peel.filling", nil); err != unix.ENODATA {
		t.Errorf("still marked as incomplete: %v", err)
	}

	// It is the container's from now on, and not filled again.
	mustRun(t, rt, root, withVolume(probeSpec(t, "write", "/data/sub/file", "changed"), "v", "/data"))
	if b, err := os.ReadFile(file); string(b) != "of the image" || err != nil {
		t.Errorf("the image's file is %q, %v", b, err)
	}
	if err := os.RemoveAll(filepath.Join(v.Dir, "bare")); err != nil {
		t.Fatal(err)
	}
	if got := mustRun(t, rt, root, withVolume(probeSpec(t, "cat", "/data/sub/file"), "v", "/data", "ro")); got != "of the imagechanged" {
		t.Errorf("%q", got)
	}
	if _, err := os.Lstat(filepath.Join(v.Dir, "bare")); err == nil {
		t.Error("filled a second time")
	}
	if r := runOnce(t, rt, root, withVolume(probeSpec(t, "write", "/data/x", "1"), "v", "/data", "ro"), CreateOptions{}); r.err != nil || r.code == 0 {
		t.Errorf("read-only: %+v", r)
	}
	// nocopy, and a place that is another mount's.
	mustRun(t, rt, root, withVolume(probeSpec(t, "exit", "0"), "bare", "/data", "nocopy"))
	s := probeSpec(t, "exit", "0")
	s.Mounts = append(s.Mounts, specs.Mount{Type: "bind", Source: "/etc", Destination: "/data", Options: []string{"rbind", "ro"}})
	mustRun(t, rt, root, withVolume(s, "under", "/data/ssl"))
	for _, name := range []string{"bare", "under"} {
		v, err := rt.Volume(name)
		if err != nil {
			t.Fatal(err)
		}
		if left, err := os.ReadDir(v.Dir); len(left) > 0 || err != nil {
			t.Errorf("%s: %v, %v", name, left, err)
		}
	}
}

func TestAFillingThatWasInterruptedIsDoneAgain(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, map[string]string{"data/a": "whole", "data/d/b": "whole"})
	v, err := rt.CreateVolume("v")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(v.Dir, "user.peel.filling", []byte("1"), 0); err != nil {
		t.Skipf("SKIPPED: no user attributes here: %v", err)
	}
	if err := errors.Join(os.Mkdir(filepath.Join(v.Dir, "d"), 0o700), os.WriteFile(filepath.Join(v.Dir, "a"), []byte("wh"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if got := mustRun(t, rt, root, withVolume(probeSpec(t, "cat", "/data/a", "/data/d/b"), "v", "/data")); got != "wholewhole" {
		t.Errorf("%q", got)
	}
}

func TestVolumesLiveAsLongAsTheyShould(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, map[string]string{"data/x": "1"})
	count := func(want int) {
		t.Helper()
		all, _, err := rt.Volumes()
		if len(all) != want || err != nil {
			t.Errorf("%d volumes, want %d; %v", len(all), want, err)
		}
	}
	// Of a container that removes itself: the named one stays.
	mustRun(t, rt, root, withVolume(withVolume(probeSpec(t, "exit", "0"), "", "/data"), "kept", "/kept"))
	count(1)
	c, err := rt.Create(t.Context(), Rootfs{Dir: root}, withVolume(withVolume(probeSpec(t, "exit", "0"), "", "/data"), "kept", "/kept"), CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	count(2)
	var inUse *VolumeInUseError
	for _, u := range c.VolumeUses {
		if err := rt.RemoveVolume(u.Name); !errors.As(err, &inUse) || inUse.ID != c.ID {
			t.Errorf("remove a volume in use: %v", err)
		}
	}
	if err := c.Remove(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	count(2)
	if err := c.RemoveVolumes(); err != nil {
		t.Fatal(err)
	}
	count(1)
	if err := rt.RemoveVolume("kept"); err != nil {
		t.Error(err)
	}
	count(0)
	if err := rt.RemoveVolume("kept"); !errors.Is(err, ErrNoVolume) {
		t.Error(err)
	}
	// One that cannot be made leaves none behind.
	if _, err := rt.Create(t.Context(), Rootfs{Dir: root}, withVolume(withVolume(probeSpec(t), "", "/a"), "../x", "/b"), CreateOptions{}); err == nil {
		t.Error("a volume called ../x")
	}
	count(0)
	for _, name := range []string{".", "..", ".lock", "a/b", "-x"} {
		if _, err := rt.CreateVolume(name); err == nil {
			t.Errorf("a volume called %q", name)
		}
	}
}

// CVE-2022-23648: the place of a volume is a link to the host's files.
func TestAVolumeIsNeverFilledFromTheHost(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	host := t.TempDir()
	if err := os.WriteFile(filepath.Join(host, "secret"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"absolute": host, "relative": "../../../../../../../.." + host} {
		root := newRootfs(t, map[string]string{"data": "-> " + target, host + "/inside": "ok"})
		mustRun(t, rt, root, withVolume(probeSpec(t, "exit", "0"), name, "/data"))
		v, err := rt.Volume(name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadDir(v.Dir)
		if err != nil || len(got) != 1 || got[0].Name() != "inside" {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	// And not through what lies in it.
	root := newRootfs(t, map[string]string{"data/dir": "-> " + host, "data/file": "-> " + host + "/secret"})
	if err := syscall.Mknod(filepath.Join(root, "data/zero"), syscall.S_IFCHR|0o666, 1<<8|5); err != nil {
		t.Fatal(err)
	}
	mustRun(t, rt, root, withVolume(probeSpec(t, "exit", "0"), "links", "/data"))
	v, err := rt.Volume("links")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"dir", "file"} {
		if info, err := os.Lstat(filepath.Join(v.Dir, name)); err != nil || info.Mode().Type() != os.ModeSymlink {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

func TestAUsersVolumesAreHis(t *testing.T) {
	if !asUser(t) {
		return
	}
	needUserNamespaces(t)
	rt := newRuntime(t)
	root := newRootfs(t, map[string]string{"data/x": "of the image"})
	if got := mustRun(t, rt, root, withVolume(userSpec(t, "cat", "/data/x"), "v", "/data")); got != "of the image" {
		t.Errorf("%q", got)
	}
	v, err := rt.Volume("v")
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(v.Dir, "x")); err != nil || ownerOf(info) != os.Geteuid() {
		t.Errorf("%v, %v", info, err)
	}
	if err := rt.RemoveVolume("v"); err != nil {
		t.Error(err)
	}
}
