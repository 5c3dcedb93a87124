package export

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// withMounts mounts things in dir, in a mount namespace that ends with the test, and
// returns dir as it is seen there: the way in which a container's root is.
func withMounts(t *testing.T, dir string) string {
	t.Helper()
	ready, end := make(chan error), make(chan struct{})
	var tid int
	var thread sync.WaitGroup
	thread.Go(func() {
		// Never unlocked: the thread ends with its namespace.
		runtime.LockOSThread()
		tid = unix.Gettid()
		ready <- mountInside(dir)
		<-end
	})
	t.Cleanup(func() {
		close(end)
		thread.Wait()
	})
	err := <-ready
	if errors.Is(err, unix.EPERM) {
		t.Skip("needs CAP_SYS_ADMIN to mount:", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("/proc/self/task/%d/root%s", tid, dir)
}

// mountInside changes the calling thread.
func mountInside(dir string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return err
	}
	mounts := []struct {
		source, target, fsType string
		flags                  uintptr
	}{
		{"", "/", "", unix.MS_PRIVATE | unix.MS_REC},
		{"tmpfs", dir + "/tmp", "tmpfs", 0},
		{"/etc/passwd", dir + "/hosts", "", unix.MS_BIND},
		{"proc", dir + "/proc", "proc", 0},
	}
	for _, m := range mounts {
		if err := unix.Mount(m.source, m.target, m.fsType, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	return os.WriteFile(dir+"/tmp/inside", []byte("mounted"), 0o644)
}

func TestMountsAreNotFollowedUnlessAsked(t *testing.T) {
	needRoot(t)
	dir := tree(t, mkdir("proc", 0o755), mkdir("tmp", 0o755), file("hosts", 0o644, ""), file("f", 0o644, "f"))
	archive, _ := archiveOf(t, withMounts(t, dir), Options{})
	const want = `0 0644 0:0 f "f"
0 0644 0:0 hosts ""
5 0555 0:0 proc/
5 1777 0:0 tmp/
`
	if got := list(t, archive); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	for h, err := range entries(archive) {
		if err != nil {
			t.Fatal(err)
		}
		if h.ModTime.Unix() != 1e9 {
			t.Errorf("%s changes its time with every mount: %v", h.Name, h.ModTime)
		}
	}
	archive, _ = archiveOf(t, withMounts(t, dir), Options{Mounts: true})
	if got := list(t, archive); !strings.Contains(got, "tmp/inside \"mounted\"\n") || strings.Contains(got, "hosts \"\"") || strings.Contains(got, "proc/self") {
		t.Errorf("with mounts got\n%s", got)
	}
}

func TestMountedAsTheKernelTells(t *testing.T) {
	const dir, reg = unix.S_IFDIR, unix.S_IFREG
	for _, tc := range []struct {
		claim      string
		root, file unix.Statx_t
		want       bool
	}{
		{"the same mount", unix.Statx_t{Mask: unix.STATX_MNT_ID, Mnt_id: 7}, unix.Statx_t{Mask: unix.STATX_MNT_ID, Mnt_id: 7, Mode: dir}, false},
		{"a subvolume has a device of its own, but no mount", unix.Statx_t{Mask: unix.STATX_MNT_ID, Mnt_id: 7}, unix.Statx_t{Mask: unix.STATX_MNT_ID, Mnt_id: 7, Mode: dir, Dev_minor: 9}, false},
		{"another mount of the same device", unix.Statx_t{Mask: unix.STATX_MNT_ID, Mnt_id: 7}, unix.Statx_t{Mask: unix.STATX_MNT_ID, Mnt_id: 8, Mode: reg}, true},
		{"an old kernel, another device", unix.Statx_t{}, unix.Statx_t{Mode: dir, Dev_minor: 9}, true},
		{"an old kernel, the same device", unix.Statx_t{Dev_minor: 9}, unix.Statx_t{Mode: dir, Dev_minor: 9}, false},
		{"an old kernel, a file of an overlay's layer", unix.Statx_t{}, unix.Statx_t{Mode: reg, Dev_minor: 9}, false},
	} {
		w := &walker{top: tc.root}
		if got := w.mounted(&tc.file); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.claim, got, tc.want)
		}
	}
}
