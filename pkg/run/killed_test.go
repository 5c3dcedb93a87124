package run

import (
	"context"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Whoever is killed while it starts a container has said before where the
// processes are going to be.
func TestAStartSaysFirstWhereItsProcessesWillBe(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	c, err := rt.Create(t.Context(), Rootfs{Dir: newRootfs(t, nil)}, probeSpec(t, "print", "x"), CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for range 20 { // a busy machine may let us look too late
		var seen state
		ended := make(chan error)
		go func() {
			p, err := c.Start(Streams{})
			if err == nil {
				_, err = p.Wait()
			}
			ended <- err
		}()
		for looking := true; looking; {
			select {
			case err := <-ended:
				if err != nil {
					t.Fatal(err)
				}
				looking = false
			default:
				var st state
				if readJSON(rt.stateFile(c.ID), &st) == nil && st.Pid == 0 {
					seen = st
				}
			}
		}
		if len(seen.Cgroups) > 0 {
			return
		}
	}
	t.Error("no start has said which cgroups it makes")
}

func TestTheProcessesOfAStartThatWasKilledGoWithTheContainer(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	c := startDetached(t, rt, newRootfs(t, nil), CreateOptions{}, "wait")
	waitForLine(t, c, "ready")
	var st state
	if err := readJSON(rt.stateFile(c.ID), &st); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(parentOf(t, st.Pid), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := c.waitUnattended(t.Context()); err != nil {
		t.Fatal(err)
	}
	// As if the monitor had been killed a moment earlier.
	if err := c.setState(state{Cgroups: st.Cgroups}); err != nil {
		t.Fatal(err)
	}
	if s := status(t, c); s.Phase != Exited {
		t.Errorf("%s", s.Phase)
	}
	if err := c.Remove(context.Background(), false); err != nil {
		t.Fatal(err)
	}
	if bornAt(st.Pid) == st.Birth {
		t.Error("the process is still there")
	}
	for _, dir := range st.Cgroups {
		if _, err := os.Lstat(dir); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", dir, err)
		}
	}
}
