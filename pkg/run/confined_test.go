package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"peel/internal/users"
)

// CVE-2022-24769 and its kin: inheritable capabilities make those of a file count
// for any user.
func TestNothingIsInheritableOrAmbient(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, map[string]string{"etc/passwd": "root:x:0:0::/root:\nweb:x:33:33::/:\n"})
	const none = "0000000000000000"
	want := "CapInh:\t" + none + "\nCapAmb:\t" + none + "\n"
	for _, user := range []string{"0", "web"} {
		got := ""
		for _, set := range []string{"CapInh:", "CapAmb:"} {
			r := runOnce(t, rt, root, probeSpec(t, "status", set), CreateOptions{User: user})
			if r.err != nil {
				t.Fatal(r.err)
			}
			got += r.stdout
		}
		if got != want {
			t.Errorf("run as %s: %q", user, got)
		}
	}
	c := startDetached(t, rt, root, CreateOptions{}, "wait")
	waitForLine(t, c, "ready")
	for _, user := range []string{"0", "web"} {
		got := ""
		for _, set := range []string{"CapInh:", "CapAmb:"} {
			_, out, err := execOutput(t, c, ExecOptions{User: user}, "status", set)
			if err != nil {
				t.Fatal(err)
			}
			got += out
		}
		if got != want {
			t.Errorf("exec as %s: %q", user, got)
		}
	}
}

// CVE-2026-30892: exec reads the same strings as run.
func TestUserStringsOfExecAreRefusedOrRight(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, map[string]string{
		"etc/passwd": "root:x:0:0::/root:\nweb:x:33:33::/:\n1000:x:0:0::/:\n", "etc/group": "root:x:0:\nweb:x:33:\nadm:x:4:web\n",
	})
	c := startDetached(t, rt, root, CreateOptions{}, "wait")
	waitForLine(t, c, "ready")
	for user, want := range map[string]string{
		"web": "33 33 33 33|33 33 33 33|4 33\n", "web:adm": "33 33 33 33|4 4 4 4|4\n", "1000": "1000 1000 1000 1000|0 0 0 0|0\n",
		"1000:": "", ":1000": "", "+0": "", "-1": "", "00": "", "0x0": "", "4294967296": "", "2147483648": "", "1:99999999999": "", "nobody": "",
	} {
		_, got, err := execOutput(t, c, ExecOptions{User: user}, "ids")
		var syntax *users.SyntaxError
		var unknown *users.UnknownError
		if got != want || (want == "") != (errors.As(err, &syntax) || errors.As(err, &unknown)) {
			t.Errorf("%q: %q, %v; want %q", user, got, err, want)
		}
	}
}

// GHSA-6fw5-f8r9-fgfm, GHSA-jq35-85cj-fj4p: what tells about the host, or steers it.
func TestWhatTellsAboutTheHostIsHidden(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, nil)
	for _, p := range []string{"/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/proc/latency_stats"} {
		if _, err := os.Stat(p); err != nil {
			continue
		}
		if r := runOnce(t, rt, root, probeSpec(t, "cat", p), CreateOptions{}); r.err != nil || r.stdout != "" {
			t.Errorf("%s: %d bytes, %v", p, len(r.stdout), r.err)
		}
	}
	for _, p := range []string{"/sys/firmware", "/proc/acpi", "/proc/scsi", "/sys/devices/virtual/powercap"} {
		if _, err := os.Stat(p); err != nil {
			continue
		}
		if r := runOnce(t, rt, root, probeSpec(t, "ls", p), CreateOptions{}); r.err != nil || r.stdout != "" {
			t.Errorf("%s: %q, %v", p, r.stdout, r.err)
		}
	}
	mounts := mustRun(t, rt, root, probeSpec(t, "cat", "/proc/self/mountinfo"))
	for _, p := range []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", "/sys", "/sys/fs/cgroup"} {
		if _, err := os.Stat(p); err != nil {
			continue
		}
		if !slices.ContainsFunc(strings.Split(mounts, "\n"), func(l string) bool {
			f := strings.Fields(l)
			return len(f) > 5 && f[4] == p && strings.HasPrefix(f[5], "ro")
		}) {
			t.Errorf("%s can be written to", p)
		}
	}
}

// CVE-2025-52565: a terminal of the image's making.
func TestATerminalIsOfADevptsOfOurOwn(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	host := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(host, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, files := range map[string]map[string]string{
		"a file":           {"dev/pts/ptmx": "x"},
		"a link out":       {"dev/pts/ptmx": "-> " + host},
		"a link in":        {"dev/pts/ptmx": "-> /dev/tty"},
		"pts is a link":    {"dev/pts": "-> " + filepath.Dir(host), "dev/x": ""},
		"nothing is there": {"dev/x": ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := probeSpec(t, "tty")
			s.Process.Terminal = true
			s.Mounts = slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool { return strings.HasPrefix(m.Destination, "/dev") })
			if r := runOnce(t, rt, newRootfs(t, files), s, CreateOptions{}); r.err == nil {
				t.Errorf("started with %+v", r)
			}
		})
	}
	if b, err := os.ReadFile(host); len(b) > 0 || err != nil {
		t.Errorf("the host's file now holds %q, %v", b, err)
	}
}

// CVE-2024-1753 and its kin: our own files are mounted on links of the image.
func TestOwnFilesAreMountedInsideWhateverLinksThere(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	host := t.TempDir()
	if err := os.WriteFile(filepath.Join(host, "there"), []byte("the host's"), 0o644); err != nil {
		t.Fatal(err)
	}
	for target, inside := range map[string]bool{host + "/there": true, "../../../../../../../.." + host + "/there": true, host + "/new": false} {
		files := map[string]string{"etc/resolv.conf": "-> " + target}
		if inside {
			files[host+"/there"] = "the image's"
		}
		r := runOnce(t, rt, newRootfs(t, files), probeSpec(t, "cat", "/etc/resolv.conf"), CreateOptions{Files: map[string]string{"/etc/resolv.conf": "ours"}})
		// A link to nowhere is not followed to make a file: it is mounted on, or refused.
		if inside && r.err != nil || r.err == nil && r.stdout != "ours" {
			t.Errorf("%s: %+v: %v", target, r, r.err)
		}
	}
	if left, err := os.ReadDir(host); len(left) != 1 || err != nil {
		t.Errorf("the host's directory now holds %v, %v", left, err)
	}
	if b, err := os.ReadFile(filepath.Join(host, "there")); string(b) != "the host's" || err != nil {
		t.Errorf("the host's file now holds %q, %v", b, err)
	}
}

// CVE-2021-43784, in lists of ids.
func TestLongListsOfIDsWorkOrFail(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, nil)
	for n, works := range map[int]bool{340: true, 341: false, 20000: false} { // user_namespaces(7)
		s := probeSpec(t, "ids")
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		for i := range n {
			m := specs.LinuxIDMapping{ContainerID: uint32(i), HostID: uint32(i), Size: 1}
			s.Linux.UIDMappings, s.Linux.GIDMappings = append(s.Linux.UIDMappings, m), append(s.Linux.GIDMappings, m)
		}
		r := runOnce(t, rt, root, s, CreateOptions{})
		if (r.err == nil) != works || works && r.stdout != "0 0 0 0|0 0 0 0|\n" {
			t.Errorf("%d ranges: %+v: %v", n, r, r.err)
		}
	}
}

// CVE-2023-25809: a user's container that shares the host's cgroup namespace.
func TestAUsersContainerCannotWriteCgroupsOfTheHost(t *testing.T) {
	if !asUser(t) {
		return
	}
	needUserNamespaces(t)
	rt := newRuntime(t)
	root := newRootfs(t, nil)
	s := userSpec(t, "cat", "/proc/self/mountinfo")
	s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.CgroupNamespace })
	for line := range strings.Lines(mustRun(t, rt, root, s)) {
		if f := strings.Fields(line); len(f) > 5 && strings.HasPrefix(f[4], "/sys/fs/cgroup") && !strings.HasPrefix(f[5], "ro") {
			t.Errorf("can be written to: %s", line)
		}
	}
	for _, p := range []string{"cgroup.procs", "pids/cgroup.procs", "memory/tasks"} {
		s.Process.Args = []string{"/bin/probe", "write", "/sys/fs/cgroup/" + p, fmt.Sprint(1)}
		if r := runOnce(t, rt, root, s, CreateOptions{}); r.err == nil && r.code == 0 {
			t.Errorf("%s: %+v", p, r)
		}
	}
}
