package run

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestChangesOfAnOverlayStayInTheContainer(t *testing.T) {
	needRoot(t)
	for _, ownUserNS := range []bool{false, true} {
		rt := newRuntime(t)
		base := newRootfs(t, map[string]string{"etc/motd": "base", "etc/gone": "x", "only/in/base": "b"})
		top := newRootfs(t, map[string]string{"etc/motd": "top", "top": "t"})
		// A whiteout as overlay has it.
		if err := unix.Mknod(filepath.Join(top, "etc/gone"), unix.S_IFCHR, 0); err != nil {
			t.Fatal(err)
		}
		run := func(c *Container) string {
			t.Helper()
			r, w := newPipe(t)
			p, err := c.Start(Streams{Out: w, Err: w})
			if err != nil {
				t.Fatal(err)
			}
			w.Close()
			b, _ := io.ReadAll(r)
			if _, err := p.Wait(); err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
		create := func(args ...string) *Container {
			t.Helper()
			s := probeSpec(t, args...)
			if ownUserNS {
				mapTo(s, 0)
			}
			c, err := rt.Create(t.Context(), Rootfs{Lower: []string{top, base}}, s, CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		c := create("cat", "/etc/motd", "/only/in/base", "/top")
		if got := run(c); got != "topbt" {
			t.Errorf("user namespace %v: read %q", ownUserNS, got)
		}
		if got := run(create("cat", "/etc/gone")); got != "open /etc/gone: no such file or directory\n" {
			t.Errorf("user namespace %v: whiteout: %q", ownUserNS, got)
		}
		c = create("write", "/etc/motd", "!")
		if got := run(c); got != "" {
			t.Errorf("user namespace %v: write: %q", ownUserNS, got)
		}
		if b, err := os.ReadFile(filepath.Join(rt.dataDir(c.ID), "upper/etc/motd")); string(b) != "top!" || err != nil {
			t.Errorf("user namespace %v: upper has %q, %v", ownUserNS, b, err)
		}
		if b, _ := os.ReadFile(filepath.Join(top, "etc/motd")); string(b) != "top" {
			t.Errorf("user namespace %v: the layer was changed to %q", ownUserNS, b)
		}
		if _, err := os.Stat(filepath.Join(base, "dev/pts")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("user namespace %v: places of mounts were made in the layer", ownUserNS)
		}
	}
}

// mapTo gives a config a user namespace in which all ids are those of the host
// from first on.
func mapTo(s *specs.Spec, first uint32) {
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	m := []specs.LinuxIDMapping{{ContainerID: 0, HostID: first, Size: 65536}}
	s.Linux.UIDMappings, s.Linux.GIDMappings = m, m
}
