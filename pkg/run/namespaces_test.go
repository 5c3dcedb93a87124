package run

import (
	"fmt"
	"os"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// joining gives the spec a namespace that is joined by path.
func joining(s *specs.Spec, kind specs.LinuxNamespaceType, path string) *specs.Spec {
	for i, ns := range s.Linux.Namespaces {
		if ns.Type == kind {
			s.Linux.Namespaces[i].Path = path
		}
	}
	return s
}

func TestNamespacesAreJoinedByPath(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, nil)
	c := startDetached(t, rt, root, CreateOptions{}, "wait")
	waitForLine(t, c, "ready")
	pid := status(t, c).Pid
	for kind, name := range map[specs.LinuxNamespaceType]string{
		specs.NetworkNamespace: "net", specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts", specs.PIDNamespace: "pid", specs.CgroupNamespace: "cgroup",
	} {
		path := fmt.Sprintf("/proc/%d/ns/%s", pid, name)
		want, err := os.Readlink(path)
		if err != nil {
			t.Fatal(err)
		}
		r := runOnce(t, rt, root, joining(probeSpec(t, "readlink", "/proc/self/ns/"+name), kind, path), CreateOptions{})
		if strings.TrimSpace(r.stdout) != want || r.err != nil {
			t.Errorf("%s: %+v, want %s", name, r, want)
		}
	}
	// In a shared pid namespace the other container's processes are there, and the
	// end of this one does not end them.
	r := runOnce(t, rt, root, joining(probeSpec(t, "cat", "/proc/1/cmdline"), specs.PIDNamespace, fmt.Sprintf("/proc/%d/ns/pid", pid)), CreateOptions{})
	if !strings.Contains(r.stdout, "wait") {
		t.Errorf("%+v", r)
	}
	if s := status(t, c); s.Phase != Running {
		t.Errorf("the other container: %+v", s)
	}
}

func TestTimeNamespaceShiftsItsClocks(t *testing.T) {
	needRoot(t)
	if _, err := os.Stat("/proc/self/ns/time"); err != nil {
		t.Skip("SKIPPED: this kernel has no time namespaces")
	}
	rt := newRuntime(t)
	root := newRootfs(t, nil)
	s := probeSpec(t, "cat", "/proc/uptime")
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
	const year = 365 * 24 * 3600
	s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: year}, "monotonic": {Secs: year}}
	r := runOnce(t, rt, root, s, CreateOptions{})
	var up float64
	if _, err := fmt.Sscan(r.stdout, &up); err != nil || up < year {
		t.Errorf("up for %v s: %+v: %v", up, r, r.err)
	}
}

func TestLoopbackIsUpAndAlone(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	r := runOnce(t, rt, newRootfs(t, nil), probeSpec(t, "dial"), CreateOptions{})
	if r.stdout != "lo: connected\n" {
		t.Errorf("%+v", r)
	}
}

// With the host's pid namespace, what the container's first process leaves behind
// is found by its cgroup.
func TestNothingOutlivesAContainerThatSharesPids(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	s := probeSpec(t, "forks", "3")
	for i, ns := range s.Linux.Namespaces {
		if ns.Type == specs.PIDNamespace {
			s.Linux.Namespaces = append(s.Linux.Namespaces[:i], s.Linux.Namespaces[i+1:]...)
			break
		}
	}
	c, err := rt.Create(t.Context(), Rootfs{Dir: newRootfs(t, nil)}, s, CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.Start(Streams{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	if left := cgroupsOf(c.ID); len(left) > 0 {
		t.Errorf("cgroups, and so processes, left: %v", left)
	}
}

// CVE-2020-15257: nothing of ours listens where a container with the host's network
// could reach it. A socket that has a path is reached by that alone.
func TestNoSocketIsReachableFromTheHostsNetwork(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	c := startDetached(t, rt, newRootfs(t, nil), CreateOptions{}, "wait")
	waitForLine(t, c, "ready")
	monitor := parentOf(t, status(t, c).Pid)
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", monitor))
	if err != nil {
		t.Fatal(err)
	}
	table, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		t.Fatal(err)
	}
	sockets := 0
	for _, fd := range fds {
		to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", monitor, fd.Name()))
		inode, ok := strings.CutPrefix(to, "socket:[")
		if !ok {
			continue
		}
		sockets++
		_, path, _ := strings.Cut(string(table), " "+strings.TrimSuffix(inode, "]")+" ")
		if path, _, _ = strings.Cut(path, "\n"); !strings.HasPrefix(path, "/") {
			t.Errorf("the monitor has %s open, at %q", to, path)
		}
	}
	if sockets != 1 {
		t.Errorf("%d sockets, want the one to attach by", sockets)
	}
	if info, err := os.Stat(rt.runDir(c.ID)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory of the socket: %v, %v", info.Mode(), err)
	}
}
