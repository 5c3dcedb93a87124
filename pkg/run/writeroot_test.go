package run

import (
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
)

func TestWhatIsWrittenBetweenRunsIsThereInTheNext(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	base := newRootfs(t, map[string]string{"etc/motd": "base"})
	for _, kind := range []struct {
		root Rootfs
		own  bool // user namespace
	}{{Rootfs{Lower: []string{base}}, false}, {Rootfs{Lower: []string{base}}, true}, {Rootfs{Dir: newRootfs(t, nil)}, false}} {
		spec := probeSpec(t, "cat", "/new")
		if kind.own {
			mapTo(spec, 0)
		}
		c, err := rt.Create(t.Context(), kind.root, spec, CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		root, err := c.OpenWritableRoot()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(fmt.Sprintf("/proc/self/fd/%d/new", root.Fd()), []byte("new"), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Start(Streams{}); !errors.Is(err, ErrRunning) {
			t.Errorf("started while somebody writes: %v", err)
		}
		if err := root.Close(); err != nil {
			t.Fatal(err)
		}
		r, w := newPipe(t)
		p, err := c.Start(Streams{Out: w, Err: w})
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
		if b, _ := io.ReadAll(r); string(b) != "new" {
			t.Errorf("%+v: the container reads %q", kind, b)
		}
		if _, err := p.Wait(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestARunningContainersRootIsItsOwn(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	c, err := rt.Create(t.Context(), Rootfs{Lower: []string{newRootfs(t, nil)}}, probeSpec(t, "wait"), CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.Start(Streams{})
	if err != nil {
		t.Fatal(err)
	}
	root, err := c.OpenWritableRoot()
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if _, err := os.Stat(fmt.Sprintf("/proc/self/fd/%d/proc/1", root.Fd())); err != nil {
		t.Errorf("what is mounted in it is not seen: %v", err)
	}
	p.Signal(9)
	p.Wait()
	gone, err := rt.Create(t.Context(), Rootfs{Dir: newRootfs(t, nil)}, probeSpec(t, "exit", "0"), CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := gone.Remove(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if _, err := gone.OpenWritableRoot(); !errors.Is(err, ErrNotFound) {
		t.Errorf("of one that was removed: %v, want ErrNotFound", err)
	}
}
