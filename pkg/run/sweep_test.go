package run

import (
	"os"
	"path/filepath"
	"testing"
)

func TestLitterOfKilledProcessesIsSwept(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, nil)
	c, err := rt.Create(t.Context(), Rootfs{Dir: root}, probeSpec(t, "exit", "0"), CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	made := filepath.Join(rt.containers(), newPrefix+newID())
	removed := filepath.Join(rt.containers(), gonePrefix+newID())
	running := rt.runDir(newID())
	for _, dir := range []string{made, removed, running} {
		if err := os.MkdirAll(filepath.Join(dir, "deep/er"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	_, busy, lock, err := rt.newDir() // somebody is making one at this moment
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Remove(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{made, removed, running} {
		if _, err := os.Lstat(dir); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", dir, err)
		}
	}
	if _, err := os.Lstat(busy); err != nil {
		t.Errorf("what is being made was swept: %v", err)
	}
	lock.Close()
	if err := rt.sweep(); err != nil {
		t.Error(err)
	}
}
