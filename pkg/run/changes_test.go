package run

import (
	"errors"
	"io"
	"testing"
)

func TestChangesOverSeveralLayers(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	base := newRootfs(t, map[string]string{"etc/motd": "base", "etc/kept": "x"})
	top := newRootfs(t, map[string]string{"top/file": "t"})
	for _, lower := range [][]string{{top, base}, {base}} {
		c, err := rt.Create(t.Context(), Rootfs{Lower: lower}, probeSpec(t, "write", "/etc/motd", "!"), CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if n, err := c.Written(); err != nil || n != 0 {
			t.Errorf("before the start %d bytes are written, %v", n, err)
		}
		r, w := newPipe(t)
		p, err := c.Start(Streams{Err: w})
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
		if said, _ := io.ReadAll(r); len(said) > 0 {
			t.Errorf("the probe says %s", said)
		}
		if _, err := p.Wait(); err != nil {
			t.Fatal(err)
		}
		got, err := c.Changes(t.Context())
		if err != nil || len(got) != 2 || got[0].Path != "/etc" || got[1] != (Change{Kind: 'C', Path: "/etc/motd"}) {
			t.Errorf("changes %v, %v: want C /etc, C /etc/motd", got, err)
		}
		if n, err := c.Written(); err != nil || n != 5 {
			t.Errorf("%d bytes are written, %v: want base! with its 5", n, err)
		}
	}
	plain, err := rt.Create(t.Context(), Rootfs{Dir: base}, probeSpec(t, "exit", "0"), CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plain.Changes(t.Context()); !errors.Is(err, ErrNoBase) {
		t.Errorf("of a directory used in place: %v, want ErrNoBase", err)
	}
}
