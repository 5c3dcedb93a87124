package run

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// delegate gives a user a cgroup with memory and processes to control, as systemd
// does, and in it one called session.
func delegate(t *testing.T, uid int) (dir string) {
	t.Helper()
	const top = "/sys/fs/cgroup/peel-test-delegation"
	dir = filepath.Join(top, "user")
	session := filepath.Join(dir, "session")
	t.Cleanup(func() {
		for _, d := range []string{session, filepath.Join(dir, "peel"), dir, top} {
			if err := os.Remove(d); err != nil && !os.IsNotExist(err) {
				t.Error(err)
			}
		}
	})
	write := func(name, text string) {
		if err := os.WriteFile(name, []byte(text), 0); err != nil {
			t.Fatal(err)
		}
	}
	write("/sys/fs/cgroup/cgroup.subtree_control", "+memory +pids")
	for _, d := range []string{top, dir, session} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if d == top {
			write(top+"/cgroup.subtree_control", "+memory +pids")
			continue
		}
		for _, name := range []string{"", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"} {
			if err := os.Chown(filepath.Join(d, name), uid, uid); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// inDelegated runs the test as a user in a delegated cgroup, or in one below.
func inDelegated(t *testing.T, below string) bool {
	if !cgroupV2() {
		t.Skip("SKIPPED: needs cgroup version 2")
	}
	return asUserIn(t, func(uid int) *os.File {
		f, err := os.Open(filepath.Join(delegate(t, uid), below))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	})
}

func TestAUserLimitsWhatIsDelegated(t *testing.T) {
	if !inDelegated(t, "session") {
		return
	}
	needUserNamespaces(t)
	rt := newRuntime(t)
	root := newRootfs(t, nil)
	limited := func(args ...string) *specs.Spec {
		s := userSpec(t, args...)
		s.Linux.Resources = &specs.LinuxResources{
			Memory: &specs.LinuxMemory{Limit: pointer(int64(64 << 20)), Swap: pointer(int64(64 << 20))},
			Pids:   &specs.LinuxPids{Limit: pointer(int64(30))},
		}
		return s
	}
	c, err := rt.Create(t.Context(), Rootfs{Dir: root}, limited("wait"), CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.StartDetached(); err != nil {
		t.Fatal(err)
	}
	waitForLine(t, c, "ready")
	for file, want := range map[string]string{"memory.max": "67108864", "memory.swap.max": "0", "pids.max": "30"} {
		if got := setting(t, c, "", "", file); got != want {
			t.Errorf("%s: %s, want %s", file, got, want)
		}
	}
	if code, out, err := execOutput(t, c, ExecOptions{}, "memory", "100"); code != 137 {
		t.Errorf("exec of too much: exit code %d, %q, %v", code, out, err)
	}
	r := runOnce(t, rt, root, limited("memory", "100"), CreateOptions{})
	if r.err != nil || r.code != 137 {
		t.Errorf("too much memory: %+v", r)
	}
	s := limited("exit", "0")
	s.Linux.Resources.CPU = &specs.LinuxCPU{Cpus: "0"}
	if r := runOnce(t, rt, root, s, CreateOptions{}); r.err == nil || !strings.Contains(r.err.Error(), `needs the controller "cpuset"`) {
		t.Errorf("a controller that is not delegated: %+v", r)
	}
}

func TestAUserAmongProcessesOfHisCgroupIsToldSo(t *testing.T) {
	if !inDelegated(t, "") {
		return
	}
	needUserNamespaces(t)
	s := userSpec(t, "exit", "0")
	s.Linux.Resources = &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: pointer(int64(30))}}
	if r := runOnce(t, newRuntime(t), newRootfs(t, nil), s, CreateOptions{}); r.err == nil || !strings.Contains(r.err.Error(), "has processes of its own") {
		t.Errorf("%+v", r)
	}
}
