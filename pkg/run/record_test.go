package run

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAContainerIsFoundByItsNewNameAlone(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, nil)
	c := startDetached(t, rt, root, CreateOptions{Name: "old", AutoRemove: true}, "wait")
	waitForLine(t, c, "ready")
	other, err := rt.Create(t.Context(), Rootfs{Dir: root}, probeSpec(t, "wait"), CreateOptions{Name: "other"})
	if err != nil {
		t.Fatal(err)
	}
	inUse := (*NameInUseError)(nil)
	if err := c.Rename("other"); !errors.As(err, &inUse) || inUse.ID != other.ID {
		t.Errorf("to a name in use: %v", err)
	}
	for _, bad := range []string{"old", "", "../x", "a b"} {
		if err := c.Rename(bad); err == nil {
			t.Errorf("renamed to %q", bad)
		}
	}
	if err := c.Rename("new"); err != nil {
		t.Fatal(err)
	}
	if got, err := rt.Get("new"); err != nil || got.ID != c.ID || got.Name != "new" {
		t.Errorf("by the new name: %v", err)
	}
	if _, err := rt.Get("old"); !errors.Is(err, ErrNotFound) {
		t.Errorf("by the old name: %v", err)
	}
	if err := other.Rename("old"); err != nil {
		t.Errorf("the old name is not free: %v", err)
	}
	// What removes itself takes the name along that it has by now.
	if err := c.Kill(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := c.waitUnattended(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(rt.nameLink("new")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its name is left: %v", err)
	}
}

func TestStopSignalsAreCheckedBeforeTheyAreMissed(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	_, err := rt.Create(t.Context(), Rootfs{Dir: newRootfs(t, nil)}, probeSpec(t, "wait"), CreateOptions{StopSignal: "SIGFOO"})
	if err == nil || !strings.Contains(err.Error(), `stop signal: no such signal: "SIGFOO"`) {
		t.Errorf("%v", err)
	}
}

func TestGraceIsTenSecondsUnlessTheContainerSaysElse(t *testing.T) {
	seconds := func(n int) *int { return &n }
	for _, c := range []struct {
		timeout *int
		want    time.Duration
	}{{nil, 10 * time.Second}, {seconds(3), 3 * time.Second}, {seconds(0), 0}, {seconds(-1), -time.Second}} {
		if got := (&Container{Record: Record{StopTimeout: c.timeout}}).Grace(); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}

func TestStopWaitsForEverIfItIsTold(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	c := startDetached(t, rt, newRootfs(t, nil), CreateOptions{}, "wait")
	waitForLine(t, c, "ready")
	if err := c.Stop(t.Context(), -1); err != nil || status(t, c).Code != 42 {
		t.Errorf("%v, %+v", err, status(t, c))
	}
}

// After a reboot the same numbers mean other processes.
func TestARebootLeavesContainersThatHaveEndedAndStartAgain(t *testing.T) {
	needRoot(t)
	rebooted(t, func(t *testing.T, rt *Runtime) *Container {
		return startDetached(t, rt, newRootfs(t, nil), CreateOptions{Restart: policy(t, "always")}, "wait")
	})
}

func TestAUsersContainersSurviveAReboot(t *testing.T) {
	if !asUser(t) {
		return
	}
	needUserNamespaces(t)
	rebooted(t, func(t *testing.T, rt *Runtime) *Container {
		c, err := rt.Create(t.Context(), Rootfs{Dir: newRootfs(t, nil)}, userSpec(t, "wait"), CreateOptions{})
		if err == nil {
			err = c.StartDetached()
		}
		if err != nil {
			t.Fatal(err)
		}
		return c
	})
}

func rebooted(t *testing.T, start func(*testing.T, *Runtime) *Container) {
	rt := newRuntime(t)
	c := start(t, rt)
	waitForLine(t, c, "ready")
	st, err := c.state()
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(monitorOf(t, c), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := c.waitUnattended(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := st
	before.Boot = "00000000-0000-0000-0000-000000000000"
	if err := writeJSON(rt.stateFile(c.ID), &before, false); err != nil {
		t.Fatal(err)
	}
	if s := status(t, c); s.Phase != Exited || s.Code != unseenExit {
		t.Errorf("after the reboot: %+v", s)
	}
	if err := c.Kill(unix.SIGKILL); !errors.Is(err, ErrNotRunning) {
		t.Errorf("a process of after the reboot was killed: %v", err)
	}
	if err := c.Stop(t.Context(), 0); err != nil {
		t.Errorf("stop: %v", err)
	}
	if err := c.StartDetached(); err != nil {
		t.Fatal(err)
	}
	if s := status(t, c); s.Phase != Running || s.Unattended || s.Pid == st.Pid {
		t.Errorf("started again: %+v", s)
	}
	// What is not of the new boot was not touched.
	if bornAt(st.Pid) != st.Birth {
		t.Error("the process of the same number was killed")
	}
	if err := unix.Kill(st.Pid, unix.SIGKILL); err != nil {
		t.Error(err)
	}
	if err := c.Remove(t.Context(), true); err != nil {
		t.Error(err)
	}
}
