package run

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// What the caller's own caller has left open, like a lock or the pipe that a
// shell reads to its end, ends with the caller and not with the container.
func TestWhoStaysKeepsNothingOfTheCallersOpen(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, nil)
	var other *Container
	for _, c := range []struct {
		name  string
		start func()
	}{
		{"a monitor", func() { other = startDetached(t, rt, root, CreateOptions{}, "wait") }},
		{"a joiner", func() {
			p, err := other.Exec(ExecOptions{Args: []string{"/bin/probe", "wait"}}, Streams{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = p.Signal(unix.SIGKILL)
				_, _ = p.Wait()
			})
		}},
	} {
		var pipe [2]int
		if err := unix.Pipe2(pipe[:], 0); err != nil { // not close-on-exec
			t.Fatal(err)
		}
		unix.CloseOnExec(pipe[0])
		c.start()
		unix.Close(pipe[1])
		// The child closes its end before it does anything else; the limit is for
		// one that never does.
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pipe[0])}}, 10_000)
		if n != 1 || err != nil {
			t.Errorf("%s keeps a pipe of the caller's open (%d, %v)", c.name, n, err)
		}
		unix.Close(pipe[0])
	}
}

// The caller's session keyring holds the keys to encrypted directories, Kerberos
// tickets and more.
func TestNoProgramHasTheCallersKeyring(t *testing.T) {
	needRoot(t)
	ours, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
	if err != nil {
		t.Skip("SKIPPED: needs keyrings:", err)
	}
	rt := newRuntime(t)
	s := probeSpec(t, "keyring")
	s.Linux.Seccomp = nil // which would have no keyring asked for
	c, err := rt.Create(t.Context(), Rootfs{Dir: newRootfs(t, nil)}, s, CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r, w := newPipe(t)
	p, err := c.Start(Streams{Out: w, Err: w})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	var first, joined int
	if _, err := fmt.Fscan(r, &first); err != nil || first == ours {
		t.Errorf("first process: keyring %d, %v; ours is %d", first, err, ours)
	}
	if _, err := p.Wait(); err != nil {
		t.Fatal(err)
	}

	s.Process.Args = []string{"/bin/probe", "wait"}
	c, err = rt.Create(t.Context(), Rootfs{Dir: newRootfs(t, nil)}, s, CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.StartDetached(); err != nil {
		t.Fatal(err)
	}
	_, out, err := execOutput(t, c, ExecOptions{}, "keyring")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(out, &joined); err != nil || joined == ours {
		t.Errorf("program that joined: keyring %d, %v; ours is %d", joined, err, ours)
	}
}
