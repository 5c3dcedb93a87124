package run

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Whoever waits for a container gets its exit code, also when nothing else is
// left of it.
func TestWaitKnowsTheCodeOfAContainerThatRemovesItself(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	c := startDetached(t, rt, newRootfs(t, nil), CreateOptions{AutoRemove: true}, "wait")
	waitForLine(t, c, "ready")
	type result struct {
		code int
		err  error
	}
	done := make(chan result, 1)
	go func() {
		code, err := c.Wait(t.Context())
		done <- result{code, err}
	}()
	for !isOpen(t, rt.lockFile(c.ID)) {
		select {
		case r := <-done:
			t.Fatalf("Wait did not wait: %v", r)
		default:
		}
	}
	if err := c.Kill(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if r := <-done; r.code != 42 || r.err != nil {
		t.Errorf("exit code %d, %v; want 42", r.code, r.err)
	}
	if _, err := os.Lstat(rt.runDir(c.ID)); !os.IsNotExist(err) {
		t.Errorf("left in the run directory: %v", err)
	}
}

// isOpen tells whether this process has the file open.
func isOpen(t *testing.T, name string) bool {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%s", fd.Name())); to == name {
			return true
		}
	}
	return false
}
