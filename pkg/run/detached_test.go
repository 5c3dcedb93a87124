package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// startDetached runs the probe under a monitor and waits for its first line.
func startDetached(t *testing.T, rt *Runtime, root string, o CreateOptions, args ...string) *Container {
	t.Helper()
	c, err := rt.Create(t.Context(), Rootfs{Dir: root}, probeSpec(t, args...), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.StartDetached(); err != nil {
		t.Fatal(err)
	}
	return c
}

var errSeen = errors.New("seen")

// waitForLine waits until the container has printed a line.
func waitForLine(t *testing.T, c *Container, line string) {
	t.Helper()
	err := c.Logs(t.Context(), LogOptions{Follow: true}, func(e LogEntry) error {
		if strings.Contains(e.Text, line) {
			return errSeen
		}
		return nil
	})
	if err != errSeen {
		t.Fatalf("no line %q: %v", line, err)
	}
}

func status(t *testing.T, c *Container) Status {
	t.Helper()
	s, err := c.Status()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

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
	code, err := p.Wait()
	return code, string(b), err
}

func TestLifeOfADetachedContainer(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, nil)
	c := startDetached(t, rt, root, CreateOptions{Name: "experiment"}, "wait")
	waitForLine(t, c, "ready")

	s := status(t, c)
	if s.Phase != Running || s.Unattended {
		t.Fatalf("status %+v", s)
	}
	if code, out, err := execOutput(t, c, ExecOptions{}, "write", "/HELLO_OPS", "x"); code != 0 || err != nil {
		t.Fatalf("exec: %d %q %v", code, out, err)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/root/HELLO_OPS", s.Pid)); err != nil {
		t.Errorf("what exec made is not seen from the host: %v", err)
	}
	if err := c.StartDetached(); !errors.Is(err, ErrRunning) {
		t.Errorf("second start: %v", err)
	}
	if _, err := c.Start(Streams{}); !errors.Is(err, ErrRunning) {
		t.Errorf("second start in the foreground: %v", err)
	}
	if err := c.Remove(t.Context(), false); !errors.Is(err, ErrRunning) {
		t.Errorf("remove while it runs: %v", err)
	}
	if _, err := rt.Create(t.Context(), Rootfs{Dir: root}, probeSpec(t, "wait"), CreateOptions{Name: "experiment"}); err == nil {
		t.Error("the name was given twice")
	}
	for _, name := range []string{"experiment", c.ID, c.ID[:6]} {
		if got, err := rt.Get(name); err != nil || got.ID != c.ID {
			t.Errorf("Get(%q): %v", name, err)
		}
	}
	if err := c.Stop(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	if s := status(t, c); s.Phase != Exited || s.Code != 42 || s.Finished.Before(s.Started) {
		t.Errorf("after stop: %+v", s)
	}
	if code, err := c.Wait(t.Context()); code != 42 || err != nil {
		t.Errorf("wait after the end: %d, %v", code, err)
	}
	if _, _, err := execOutput(t, c, ExecOptions{}, "exit", "0"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("exec after the end: %v", err)
	}
	if left := cgroupsOf(c.ID); len(left) > 0 {
		t.Errorf("cgroups left: %v", left)
	}
	// And again.
	if err := c.StartDetached(); err != nil {
		t.Fatal(err)
	}
	if err := c.Remove(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if _, err := rt.Get("experiment"); !errors.Is(err, ErrNotFound) {
		t.Errorf("after remove: %v", err)
	}
}

func cgroupsOf(id string) []string {
	found, _ := filepath.Glob("/sys/fs/cgroup/*/peel/" + id)
	return found
}

func TestStopKillsWhatDoesNotListen(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	c := startDetached(t, rt, newRootfs(t, nil), CreateOptions{}, "hang")
	waitForLine(t, c, "ready")
	if err := c.Stop(t.Context(), time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if s := status(t, c); s.Phase != Exited || s.Code != 137 {
		t.Errorf("status %+v, want exit code 137", s)
	}
}

func TestLogsKeepStreamsApartAndInOrder(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	c := startDetached(t, rt, newRootfs(t, nil), CreateOptions{}, "talk", "5")
	if _, err := c.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	read := func(o LogOptions) (out, errs string) {
		if err := c.Logs(t.Context(), o, func(e LogEntry) error {
			if e.Stream == "stdout" {
				out += e.Text
			} else {
				errs += e.Text
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return out, errs
	}
	for _, follow := range []bool{false, true} {
		if out, errs := read(LogOptions{Follow: follow}); out != "out 0\nout 1\nout 2\nout 3\nout 4\n" || errs != "err 0\nerr 1\nerr 2\nerr 3\nerr 4\n" {
			t.Errorf("follow %v: stdout %q, stderr %q", follow, out, errs)
		}
	}
	two := 2
	if out, errs := read(LogOptions{Tail: &two}); strings.Count(out+errs, "\n") != 2 || !strings.Contains(out+errs, "4\n") {
		t.Errorf("tail 2: %q %q", out, errs)
	}
	if out, errs := read(LogOptions{Since: time.Now()}); out+errs != "" {
		t.Errorf("since now: %q %q", out, errs)
	}
}

func TestDetachedStartFailsWithItsReason(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	s := probeSpec(t)
	s.Process.Args = []string{"/no/such"}
	c, err := rt.Create(t.Context(), Rootfs{Dir: newRootfs(t, nil)}, s, CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.StartDetached(); ExitCode(err) != 127 || !strings.Contains(err.Error(), "/no/such: no such file") {
		t.Errorf("error %v, exit code %d", err, ExitCode(err))
	}
	if s := status(t, c); s.Phase != Exited || s.Code != 127 {
		t.Errorf("status %+v", s)
	}
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
	wait, err := p.Relay(nil, w)
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
		wait, err := p.Relay(inR, w)
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

func TestKilledMonitorsAreSeenForWhatTheyAre(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	c := startDetached(t, rt, newRootfs(t, nil), CreateOptions{}, "hang")
	waitForLine(t, c, "ready")
	s := status(t, c)
	monitor := parentOf(t, s.Pid)
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
	if s := status(t, c); s.Phase != Running || !s.Unattended {
		t.Errorf("monitor killed: %+v", s)
	}
	if _, err := c.Start(Streams{}); !errors.Is(err, ErrRunning) {
		t.Errorf("start while an orphan runs: %v", err)
	}
	if code, out, err := execOutput(t, c, ExecOptions{}, "print", "alive"); code != 0 || out != "alive\n" {
		t.Errorf("exec in an orphan: %d %q %v", code, out, err)
	}
	if err := c.Kill(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if code, err := c.Wait(t.Context()); code != unseenExit || err != nil {
		t.Errorf("wait for an orphan: %d, %v", code, err)
	}
	if s := status(t, c); s.Phase != Exited || s.Code != unseenExit {
		t.Errorf("orphan killed: %+v", s)
	}
	if err := c.Remove(t.Context(), false); err != nil {
		t.Errorf("remove: %v", err)
	}
	if left := cgroupsOf(c.ID); len(left) > 0 {
		t.Errorf("cgroups left: %v", left)
	}
}

func parentOf(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	var parent int
	fmt.Sscanf(lineOf(string(b), "PPid:"), "PPid:\t%d", &parent)
	if parent <= 1 {
		t.Fatalf("parent %d", parent)
	}
	return parent
}

func TestManyContainersAtOnceLoseAndLeaveNothing(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, nil)
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	for i := range 40 {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			name := fmt.Sprintf("c%d", i%20) // every name is wanted twice
			c, err := rt.Create(context.Background(), Rootfs{Dir: root}, probeSpec(t, "wait"), CreateOptions{Name: name})
			if inUse := (*NameInUseError)(nil); errors.As(err, &inUse) {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			if err := c.StartDetached(); err != nil {
				t.Errorf("%s: start: %v", name, err)
			}
			if code, out, err := execOutput(t, c, ExecOptions{}, "print", name); out != name+"\n" {
				s, serr := c.Status()
				t.Errorf("%s: exec: %d %q %v; status %+v, %v", name, code, out, err, s, serr)
			}
			if i%3 == 0 {
				if err := c.Stop(context.Background(), time.Millisecond); err != nil {
					t.Errorf("%s: stop: %v", name, err)
				}
			}
			if err := c.Remove(context.Background(), true); err != nil {
				t.Errorf("%s: remove: %v", name, err)
			}
			if left := cgroupsOf(c.ID); len(left) > 0 {
				t.Errorf("%s: cgroups left: %v", name, left)
			}
		})
	}
	wg.Wait()
	all, err := rt.List()
	if err != nil || len(all) != 0 {
		t.Errorf("left: %v, %v", all, err)
	}
	if names, _ := os.ReadDir(rt.names()); len(names) > 1 { // the lock
		t.Errorf("names left: %v", names)
	}
}
