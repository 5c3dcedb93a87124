package run

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestRestartPoliciesAreDockersWords(t *testing.T) {
	for word, want := range map[string]string{
		"": "no", "no": "no", "always": "always", "unless-stopped": "unless-stopped", "on-failure": "on-failure", "on-failure:3": "on-failure:3",
		"on-failure:0": "on-failure", "on-failure:-1": "cannot be negative", "on-failure:x": "must be an integer", "always:3": "only be used with",
		"no:1": "only be used with", "sometimes": "want no, on-failure", "Always": "want no, on-failure",
	} {
		p, err := ParseRestartPolicy(word)
		got := p.String()
		if err != nil {
			got = err.Error()
		}
		if got != want && (err == nil || !strings.Contains(got, want)) {
			t.Errorf("%q: %s, want %s", word, got, want)
		}
	}
}

func TestRestartPoliciesDecideByCodeAndCount(t *testing.T) {
	for _, c := range []struct {
		policy      string
		code, count int
		want        bool
	}{
		{"no", 1, 0, false}, {"always", 0, 0, true}, {"always", 1, 1000, true}, {"unless-stopped", 0, 5, true},
		{"on-failure", 0, 0, false}, {"on-failure", 1, 1000, true}, {"on-failure:2", 1, 1, true}, {"on-failure:2", 1, 2, false}, {"on-failure:2", 0, 0, false},
	} {
		p, err := ParseRestartPolicy(c.policy)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.again(c.code, c.count); got != c.want {
			t.Errorf("%s after code %d and %d restarts: %v", c.policy, c.code, c.count, got)
		}
	}
}

func TestPausesDoubleUpToAMinuteAndBeginAgainAfterASoundRun(t *testing.T) {
	var b backoff
	for i, c := range []struct{ lasted, want time.Duration }{
		{0, 100 * time.Millisecond}, {0, 200 * time.Millisecond}, {10 * time.Second, 400 * time.Millisecond}, {0, 800 * time.Millisecond},
		{11 * time.Second, 100 * time.Millisecond}, {0, 200 * time.Millisecond},
	} {
		if got := b.next(c.lasted); got != c.want {
			t.Errorf("pause %d: %s, want %s", i, got, c.want)
		}
	}
	for range 20 {
		b.next(0)
	}
	if got := b.next(0); got != time.Minute {
		t.Errorf("the longest is %s", got)
	}
}

func policy(t *testing.T, word string) RestartPolicy {
	t.Helper()
	p, err := ParseRestartPolicy(word)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// awaitPhase looks until the container is in a phase.
func awaitPhase(t *testing.T, c *Container, want Phase) Status {
	t.Helper()
	for {
		s := status(t, c)
		if s.Phase == want {
			return s
		}
		if err := t.Context().Err(); err != nil {
			t.Fatalf("%+v: %v", s, err)
		}
	}
}

func TestAFailureIsTriedAgainAsOftenAsThePolicySays(t *testing.T) {
	needRoot(t)
	triedAgain(t, func(t *testing.T, args ...string) *specs.Spec { return probeSpec(t, args...) })
}

func TestUsersContainersAreTriedAgain(t *testing.T) {
	if !asUser(t) {
		return
	}
	needUserNamespaces(t)
	triedAgain(t, userSpec)
}

func triedAgain(t *testing.T, spec func(*testing.T, ...string) *specs.Spec) {
	rt := newRuntime(t)
	root := newRootfs(t, nil)
	c, err := rt.Create(t.Context(), Rootfs{Dir: root}, spec(t, "printerr", "tried"), CreateOptions{Restart: policy(t, "on-failure:2")})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.StartDetached(); err != nil {
		t.Fatal(err)
	}
	// A success is none.
	if code, err := c.Wait(t.Context()); code != 0 || err != nil || status(t, c).RestartCount != 0 {
		t.Errorf("%d, %v, %+v", code, err, status(t, c))
	}
	c, err = rt.Create(t.Context(), Rootfs{Dir: root}, spec(t, "failing", "3"), CreateOptions{Restart: policy(t, "on-failure:2")})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // whoever starts it begins anew
		if err := c.StartDetached(); err != nil {
			t.Fatal(err)
		}
		lines := 0
		if err := c.Logs(t.Context(), LogOptions{Follow: true}, func(LogEntry) error { lines++; return nil }); err != nil {
			t.Fatal(err)
		}
		if code, err := c.Wait(t.Context()); code != 3 || err != nil {
			t.Errorf("%d, %v", code, err)
		}
		if s := status(t, c); s.RestartCount != 2 || s.Phase != Exited || lines%3 != 0 || lines == 0 {
			t.Errorf("%d lines, %+v", lines, s)
		}
	}
	if _, err := os.Stat(rt.stateFile(c.ID)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its state: %v", err)
	}
}

func TestStopEndsThePolicy(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, nil)
	for _, c := range []struct {
		name  string
		probe []string
		in    Phase
		stop  func(*Container) error
		code  int
	}{
		{"stop of one that runs", []string{"wait"}, Running, func(c *Container) error { return c.Stop(t.Context(), time.Minute) }, 42},
		{"kill of one that runs", []string{"hang"}, Running, func(c *Container) error { return c.Kill(unix.SIGKILL) }, 137},
		{"stop between two runs", []string{"failing", "3"}, Restarting, func(c *Container) error { return c.Stop(t.Context(), time.Minute) }, 3},
		{"kill between two runs", []string{"failing", "3"}, Restarting, func(c *Container) error { return c.Kill(unix.SIGKILL) }, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			made := startDetached(t, rt, root, CreateOptions{Restart: policy(t, "unless-stopped")}, c.probe...)
			if c.in == Running {
				waitForLine(t, made, "ready")
			}
			s := awaitPhase(t, made, c.in)
			if err := made.StartDetached(); !errors.Is(err, ErrRunning) {
				t.Errorf("start: %v", err)
			}
			if err := made.Remove(t.Context(), false); !errors.Is(err, ErrRunning) {
				t.Errorf("remove: %v", err)
			}
			if c.in == Restarting && s.Code != 3 && !s.Finished.IsZero() {
				t.Errorf("between two runs: %+v", s)
			}
			if err := c.stop(made); err != nil {
				t.Fatal(err)
			}
			if code, err := made.Wait(t.Context()); code != c.code || err != nil {
				t.Errorf("exit code %d, %v; want %d", code, err, c.code)
			}
			if s := status(t, made); s.Phase != Exited {
				t.Errorf("%+v", s)
			}
			if err := made.Remove(t.Context(), false); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestOtherSignalsLeaveThePolicyWhereAStopSignalWasChosen(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	c := startDetached(t, rt, newRootfs(t, nil), CreateOptions{Restart: policy(t, "always"), StopSignal: "QUIT"}, "wait")
	waitForLine(t, c, "ready")
	if err := c.Kill(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for status(t, c).RestartCount == 0 {
		if status(t, c).Phase == Exited {
			t.Fatal("it was not started again")
		}
	}
	awaitPhase(t, c, Running)
	if err := c.Remove(t.Context(), true); err != nil {
		t.Error(err)
	}
}

// Whatever is killed, what is left is seen for what it is, and goes.
func TestKilledMonitorsOfRestartingContainersLeaveNothing(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, nil)
	for _, in := range []Phase{Running, Restarting} {
		t.Run(string(in), func(t *testing.T) {
			probe := map[Phase][]string{Running: {"hang"}, Restarting: {"failing", "3"}}[in]
			c := startDetached(t, rt, root, CreateOptions{Restart: policy(t, "always")}, probe...)
			monitor := monitorOf(t, c)
			awaitPhase(t, c, in)
			if err := unix.Kill(monitor, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if err := c.waitUnattended(t.Context()); err != nil {
				t.Fatal(err)
			}
			s := status(t, c)
			switch {
			case in == Running && (s.Phase != Running || !s.Unattended):
				t.Errorf("%+v", s)
			case in == Restarting && s.Phase == Running && !s.Unattended, in == Restarting && s.Phase == Restarting:
				t.Errorf("%+v", s)
			}
			// It can be stopped, and started, and removed.
			if err := c.Stop(t.Context(), 0); err != nil {
				t.Errorf("stop: %v", err)
			}
			if err := c.StartDetached(); err != nil {
				t.Errorf("start: %v", err)
			}
			if err := c.Remove(t.Context(), true); err != nil {
				t.Errorf("remove: %v", err)
			}
			if left := cgroupsOf(c.ID); len(left) > 0 {
				t.Errorf("cgroups left: %v", left)
			}
		})
	}
}

// monitorOf is the process that has the container's lock.
func monitorOf(t *testing.T, c *Container) int {
	t.Helper()
	locks, err := os.Open(c.rt.lockFile(c.ID))
	if err != nil {
		t.Fatal(err)
	}
	defer locks.Close()
	all, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		var pid int
		if n, _ := fmt.Sscan(d.Name(), &pid); n != 1 {
			continue
		}
		if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); !strings.HasPrefix(string(b), "peel-monitor") {
			continue
		}
		fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		for _, fd := range fds {
			if to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd.Name())); to == c.rt.lockFile(c.ID) {
				return pid
			}
		}
	}
	t.Fatal("no monitor")
	return 0
}

func TestOneThatRemovesItselfHasNoPolicy(t *testing.T) {
	rt, err := Open(Options{Data: t.TempDir() + "/data", Run: t.TempDir() + "/run"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rt.Create(t.Context(), Rootfs{Dir: "/"}, probeSpec(t, "wait"), CreateOptions{AutoRemove: true, Restart: policy(t, "always")}); err == nil {
		t.Error("it was created")
	}
}
