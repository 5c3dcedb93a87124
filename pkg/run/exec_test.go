package run

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"peel/pkg/bundle"
)

// execOutput runs the probe in a running container.
func execOutput(t *testing.T, c *Container, o ExecOptions, args ...string) (int, string, error) {
	t.Helper()
	o.Args = append([]string{"/bin/probe"}, args...)
	r, w := newPipe(t)
	p, err := c.Exec(o, Streams{Out: w, Err: w})
	w.Close()
	if err != nil {
		return 0, "", err
	}
	b, _ := io.ReadAll(r)
	r.Close()
	code, err := p.Wait()
	return code, string(b), err
}

func TestExecIsConfinedLikeTheContainer(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, map[string]string{
		"etc/passwd": "root:x:0:0::/root:\nweb:x:33:33::/var/www:\n", "etc/group": "root:x:0:\nweb:x:33:\nadm:x:4:web\n", "srv/": "",
	})
	c := startDetached(t, rt, root, CreateOptions{}, "wait")
	waitForLine(t, c, "ready")
	pid := status(t, c).Pid
	first, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, got, err := execOutput(t, c, ExecOptions{}, "cat", "/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"Uid:", "Gid:", "Groups:", "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:", "Seccomp:"} {
		if a, b := lineOf(string(first), key), lineOf(got, key); a != b || a == "" {
			t.Errorf("first process %q, exec %q", a, b)
		}
	}
	for _, ns := range []string{"mnt", "pid", "uts", "ipc", "net", "cgroup"} {
		want, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, ns))
		if _, got, err := execOutput(t, c, ExecOptions{}, "readlink", "/proc/self/ns/"+ns); strings.TrimSpace(got) != want || err != nil {
			t.Errorf("%s namespace %q, want %q: %v", ns, got, want, err)
		}
	}
	limits, _ := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if _, got, err := execOutput(t, c, ExecOptions{}, "cat", "/proc/self/limits"); got != string(limits) || err != nil {
		t.Errorf("limits %q, %v; want %q", got, err, limits)
	}
	want, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if _, got, err := execOutput(t, c, ExecOptions{}, "cat", "/proc/1/cgroup"); err != nil || strings.Contains(got, "peel") {
		t.Errorf("cgroup from inside: %q %v; from outside %q", got, err, want)
	}
	for _, c2 := range []struct {
		name string
		o    ExecOptions
		args []string
		want string
	}{
		{"as a user with groups", ExecOptions{User: "web"}, []string{"ids"}, "33 33 33 33|33 33 33 33|4 33\n"},
		{"no capabilities for a user", ExecOptions{User: "web"}, []string{"status", "CapPrm:"}, "CapPrm:\t0000000000000000\n"},
		{"in a directory", ExecOptions{Cwd: "/srv"}, []string{"pwd"}, "/srv\n"},
		{"with a variable", ExecOptions{Env: []string{"X=1"}}, []string{"env", "X"}, "1\n"},
		{"without a variable", ExecOptions{Env: []string{"PATH"}}, []string{"env", "PATH"}, "\n"},
		{"home of the user", ExecOptions{User: "web"}, []string{"env", "HOME"}, "/var/www\n"},
		{"its exit code", ExecOptions{}, []string{"print", "x"}, "x\n"},
		{"no descriptors of the host", ExecOptions{}, []string{"fds"}, "0 1 2\n"},
		{"cannot make namespaces", ExecOptions{}, []string{"namespaces"}, "mount EPERM\nunshare EPERM\nclone EPERM\nclone3 ENOSYS\nsetns EPERM\n"},
	} {
		if _, got, err := execOutput(t, c, c2.o, c2.args...); got != c2.want || err != nil {
			t.Errorf("%s: got %q, %v; want %q", c2.name, got, err, c2.want)
		}
	}
	if code, _, _ := execOutput(t, c, ExecOptions{}, "exit", "17"); code != 17 {
		t.Errorf("exit code %d", code)
	}
	_, err = c.Exec(ExecOptions{Args: []string{"nothing"}}, Streams{})
	if ExitCode(err) != 127 {
		t.Errorf("a program that is not there: %v", err)
	}
	_, err = c.Exec(ExecOptions{Args: []string{"/etc/passwd"}, User: "web"}, Streams{})
	if ExitCode(err) != 126 {
		t.Errorf("a program that is none: %v", err)
	}
	for fd := range 40 {
		if _, out, err := execOutput(t, c, ExecOptions{Cwd: fmt.Sprintf("/proc/self/fd/%d", fd)}, "pwd"); err == nil {
			t.Errorf("cwd of descriptor %d was entered: %s", fd, out)
		}
	}
}

func lineOf(text, key string) string {
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, key) {
			return line
		}
	}
	return ""
}

func TestTerminals(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, nil)
	s := probeSpec(t, "size")
	s.Process.Terminal, s.Process.ConsoleSize = true, boxOf(81, 25)
	c, err := rt.Create(t.Context(), Rootfs{Dir: root}, s, CreateOptions{AutoRemove: true})
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.Start(Streams{})
	if err != nil {
		t.Fatal(err)
	}
	r, w := newPipe(t)
	wait, err := p.Relay(Console{Out: w})
	if err != nil {
		t.Fatal(err)
	}
	if code, err := wait(); code != 0 || err != nil {
		t.Errorf("code %d, %v", code, err)
	}
	w.Close()
	if b, _ := io.ReadAll(r); string(b) != "81x25\r\n" {
		t.Errorf("run -t: size %q", b)
	}
	d := startDetached(t, rt, root, CreateOptions{}, "wait")
	waitForLine(t, d, "ready")
	for _, args := range []string{"size", "tty", "echo"} {
		p, err := d.Exec(ExecOptions{Args: []string{"/bin/probe", args}, Terminal: true, ConsoleSize: boxOf(81, 25)}, Streams{})
		if err != nil {
			t.Fatal(err)
		}
		inR, inW := newPipe(t)
		inW.WriteString("typed\n")
		inW.Close()
		r, w := newPipe(t)
		wait, err := p.Relay(Console{In: inR, Out: w})
		if err != nil {
			t.Fatal(err)
		}
		if code, err := wait(); code != 0 || err != nil {
			t.Errorf("%s: code %d, %v", args, code, err)
		}
		w.Close()
		b, _ := io.ReadAll(r)
		want := map[string]string{"size": "81x25\r\n", "tty": "/dev/pts/0 controls\r\n", "echo": "typed\r\ntyped\r\n"}[args]
		if got := string(b); !strings.HasSuffix(got, want) && !strings.Contains(got, want) {
			t.Errorf("exec -t %s: %q, want %q", args, b, want)
		}
	}
}

// A container may end while a program is about to join it.
func TestTheNamespacesOfAProcessThatHasEndedAreNotRunning(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := foreignNamespaces(cmd.Process.Pid); !errors.Is(err, ErrNotRunning) {
		t.Errorf("%v", err)
	}
}

// The joiner has more threads than the container may have processes; its program is
// one, and is counted.
func TestExecWorksAtTheLimitOfProcesses(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, map[string]string{"bin/text": "not a program\n"})
	s := probeSpec(t, "wait")
	wish := bundle.Wishes{Limits: bundle.Limits{Pids: 64}}
	if err := wish.Apply(s); err != nil {
		t.Fatal(err)
	}
	c, err := rt.Create(t.Context(), Rootfs{Dir: root}, s, CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.StartDetached(); err != nil {
		t.Fatal(err)
	}
	waitForLine(t, c, "ready")
	own, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", status(t, c).Pid))
	if err != nil {
		t.Fatal(err)
	}
	if _, got, err := execOutput(t, c, ExecOptions{}, "cat", "/proc/1/cgroup", "/proc/self/cgroup"); err != nil || len(got) == 0 || got[:len(got)/2] != got[len(got)/2:] {
		t.Errorf("exec is in other cgroups: %q, %v; the container in %q", got, err, own)
	}
	var st state
	if err := readJSON(rt.stateFile(c.ID), &st); err != nil {
		t.Fatal(err)
	}
	dir, v1 := st.Cgroups["pids"]
	if !v1 {
		dir = st.Cgroups[""]
	}
	if err := os.WriteFile(dir+"/pids.max", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := c.Exec(ExecOptions{Args: []string{"/bin/text"}}, Streams{}); ExitCode(err) != 126 || !strings.Contains(err.Error(), "without a #! line") {
			t.Errorf("%v", err)
		}
	}
	// Above its limit the container cannot grow, by exec's program either.
	if code, got, err := execOutput(t, c, ExecOptions{}, "forks", "1"); err == nil && code == 0 && strings.TrimSpace(got) == "1" {
		t.Errorf("a program above the limit has forked: %q", got)
	}
}
