package run

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"peel/pkg/bundle"
)

// asUser runs this test once more as a user who is in no file of the system, and
// says whether this is that run.
func asUser(t *testing.T) bool { return asUserIn(t, nil) }

// asUserIn has that user in the cgroup that place makes for him.
func asUserIn(t *testing.T, place func(uid int) *os.File) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		return true
	}
	bin, err := probe()
	if err != nil {
		t.Fatal(err)
	}
	const uid = 54321
	// All of his own: the test's directories are root's.
	dir, err := os.MkdirTemp("", "peel-user-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for from, to := range map[string]string{"/proc/self/exe": "test", bin: "probe"} {
		b, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, to), b, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []string{"", "tmp"} {
		p = filepath.Join(dir, p)
		if err := os.MkdirAll(p, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(p, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(filepath.Join(dir, "test"), "-test.run=^"+t.Name()+"$", "-test.v", "-test.count=1")
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + filepath.Join(dir, "tmp"), "PEEL_TEST_PROBE=" + filepath.Join(dir, "probe"), "HOME=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	if place != nil {
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(place(uid).Fd())
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS")) && !bytes.Contains(out, []byte("--- SKIP")) {
		t.Errorf("as user %d: %v\n%s", uid, err, out)
	}
	return false
}

// userSpec is what a user can ask for with one id.
func userSpec(t *testing.T, args ...string) *specs.Spec {
	t.Helper()
	s := probeSpec(t, args...)
	uids, gids := UserMaps()
	bundle.EnterUserNamespace(s, uids, gids)
	return s
}

func needUserNamespaces(t *testing.T) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
	if err := cmd.Run(); err != nil {
		t.Skipf("SKIPPED: users cannot make user namespaces here: %v", err)
	}
}

func TestUsersRunContainersToo(t *testing.T) {
	if !asUser(t) {
		return
	}
	needUserNamespaces(t)
	rt := newRuntime(t)
	root := newRootfs(t, map[string]string{"srv/": ""})
	r := runOnce(t, rt, root, userSpec(t, "ids"), CreateOptions{})
	if r.err != nil || r.stdout != "0 0 0 0|0 0 0 0|\n" {
		t.Fatalf("%+v", r)
	}
	// What the container's root makes is the user's.
	if r := runOnce(t, rt, root, userSpec(t, "write", "/srv/x", "y"), CreateOptions{}); r.err != nil || r.code != 0 {
		t.Fatalf("%+v", r)
	}
	if info, err := os.Stat(filepath.Join(root, "srv/x")); err != nil || ownerOf(info) != os.Geteuid() {
		t.Errorf("owner of a new file: %v", err)
	}
	for what, args := range map[string][]string{
		"cgroups":     {"write", "/sys/fs/cgroup/pids/cgroup.procs", "1"},
		"the host":    {"write", "/proc/sys/kernel/hostname", "x"},
		"sysrq":       {"write", "/proc/sysrq-trigger", "x"},
		"kernel core": {"write", "/proc/kcore", "x"},
	} {
		if r := runOnce(t, rt, root, userSpec(t, args...), CreateOptions{}); r.err != nil || r.code == 0 && what != "kernel core" {
			t.Errorf("%s: %+v", what, r)
		}
	}
	// Limits that cannot be kept are refused.
	limited := userSpec(t, "exit", "0")
	limit := int64(64 << 20)
	limited.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit}
	if r := runOnce(t, rt, root, limited, CreateOptions{}); r.err == nil || !strings.Contains(r.err.Error(), "need root") {
		t.Errorf("a limit: %+v", r)
	}
	// exec enters the user namespace too, and is no more than the container is.
	c, err := rt.Create(t.Context(), Rootfs{Dir: root}, userSpec(t, "wait"), CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.StartDetached(); err != nil {
		t.Fatal(err)
	}
	waitForLine(t, c, "ready")
	first, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", status(t, c).Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, got, err := execOutput(t, c, ExecOptions{}, "cat", "/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:", "Seccomp:"} {
		if a, b := lineOf(string(first), key), lineOf(got, key); a != b || a == "" {
			t.Errorf("first process %q, exec %q", a, b)
		}
	}
	if code, out, err := execOutput(t, c, ExecOptions{Cwd: "/srv"}, "pwd"); code != 0 || out != "/srv\n" {
		t.Errorf("exec: %d %q %v", code, out, err)
	}
	if code, _, _ := execOutput(t, c, ExecOptions{}, "exit", "7"); code != 7 {
		t.Errorf("exit code of exec: %d", code)
	}
	if _, err := c.Exec(ExecOptions{Args: []string{"/none"}}, Streams{}); ExitCode(err) != 127 {
		t.Errorf("exec of nothing: %v", err)
	}
	if err := c.Remove(t.Context(), true); err != nil {
		t.Error(err)
	}
}

func TestRootRunsContainersWithOtherIDs(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, nil)
	// The mapped root has to get there.
	for p := root; len(p) > len(os.TempDir()); p = filepath.Dir(p) {
		if err := os.Chmod(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const first = 200000
	if err := filepath.Walk(root, func(p string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(p, first, first)
	}); err != nil {
		t.Fatal(err)
	}
	s := probeSpec(t, "wait")
	mapTo(s, first)
	c, err := rt.Create(t.Context(), Rootfs{Dir: root}, s, CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.StartDetached(); err != nil {
		t.Fatal(err)
	}
	waitForLine(t, c, "ready")
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", status(t, c).Pid))
	if want := "Uid:\t200000\t200000\t200000\t200000"; err != nil || lineOf(string(b), "Uid:") != want {
		t.Errorf("from outside %q, %v; want %q", lineOf(string(b), "Uid:"), err, want)
	}
	if code, out, err := execOutput(t, c, ExecOptions{User: "33"}, "ids"); code != 0 || out != "33 33 33 33|0 0 0 0|0\n" {
		t.Errorf("exec: %d %q %v", code, out, err)
	}
	if left := cgroupsOf(c.ID); len(left) == 0 {
		t.Error("no cgroups")
	}
}

func TestUsersHaveOverlays(t *testing.T) {
	if !asUser(t) {
		return
	}
	needUserNamespaces(t)
	dir := t.TempDir()
	if err := TryOverlay(dir); err != nil {
		t.Skipf("SKIPPED: users cannot make overlays here: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("trying has left %v, %v", left, err)
	}
	rt := newRuntime(t)
	base := newRootfs(t, map[string]string{"etc/motd": "base", "etc/gone": "x"})
	if err := os.Chmod(base, 0o750); err != nil {
		t.Fatal(err)
	}
	image := &Image{Manifest: "sha256:" + digest.Digest(strings.Repeat("a", 64))}
	root := Rootfs{Image: image, Lower: []string{base}}
	c, err := rt.Create(t.Context(), root, userSpec(t, "wait"), CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.StartDetached(); err != nil {
		t.Fatal(err)
	}
	waitForLine(t, c, "ready")
	if code, out, err := execOutput(t, c, ExecOptions{}, "write", "/etc/motd", "!"); code != 0 || err != nil {
		t.Fatalf("write: %d %q %v", code, out, err)
	}
	if _, out, err := execOutput(t, c, ExecOptions{}, "cat", "/etc/motd"); out != "base!" || err != nil {
		t.Errorf("read %q, %v", out, err)
	}
	if b, err := os.ReadFile(filepath.Join(base, "etc/motd")); string(b) != "base" || err != nil {
		t.Errorf("the image has %q, %v", b, err)
	}
	for p, want := range map[string]os.FileMode{base: 0o750, filepath.Join(rt.dataDir(c.ID), "upper"): 0o750} {
		if info, err := os.Stat(p); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", p, info, err)
		}
	}
	got, err := c.Changes(t.Context())
	if want := []Change{{Kind: 'C', Path: "/etc"}, {Kind: 'C', Path: "/etc/motd"}}; !slices.Equal(got, want) || err != nil {
		t.Errorf("changes %v, %v; want %v", got, err, want)
	}
	if err := c.Remove(t.Context(), true); err != nil {
		t.Error(err)
	}
}
