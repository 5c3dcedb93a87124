package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
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
	v1, _ := filepath.Glob("/sys/fs/cgroup/*/peel/" + id)
	v2, _ := filepath.Glob("/sys/fs/cgroup/peel/" + id)
	return append(v1, v2...)
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
