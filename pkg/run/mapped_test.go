package run

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ids is a mapping of one range.
func ids(inside, outside, count uint32) []specs.LinuxIDMapping {
	return []specs.LinuxIDMapping{{ContainerID: inside, HostID: outside, Size: count}}
}

func TestOwnersAreMappedInAMount(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, map[string]string{"m/": ""})
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := errors.Join(os.WriteFile(file, []byte("x"), 0o600), os.Chown(dir, 1000, 1000), os.Chown(file, 1000, 1000)); err != nil {
		t.Fatal(err)
	}
	spec := func(options []string, uids, gids []specs.LinuxIDMapping, args ...string) *specs.Spec {
		s := probeSpec(t, args...)
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/m", Type: "bind", Source: dir, Options: options, UIDMappings: uids, GIDMappings: gids})
		return s
	}
	// Files of 1000 are 33's: he alone, without capabilities, may read them.
	s := spec([]string{"rbind", "ridmap"}, ids(1000, 33, 1), ids(1000, 44, 1), "cat", "/m/file")
	s.Process.User = specs.User{UID: 33, GID: 44}
	r := runOnce(t, rt, root, s, CreateOptions{})
	if errors.Is(r.err, unix.EINVAL) {
		t.Skipf("SKIPPED: the file system of %s maps no owners: %v", dir, r.err)
	}
	if r.err != nil || r.stdout != "x" {
		t.Errorf("as the owner: %+v: %v", r, r.err)
	}
	s = spec([]string{"bind"}, ids(1000, 33, 1), ids(1000, 44, 1), "cat", "/m/file")
	s.Process.User = specs.User{UID: 1000, GID: 1000}
	if r := runOnce(t, rt, root, s, CreateOptions{}); r.err != nil || r.code == 0 {
		t.Errorf("as who owns it outside: %+v: %v", r, r.err)
	}
	// What is made there is the other's outside.
	s = spec([]string{"bind"}, ids(1000, 33, 1), ids(1000, 44, 1), "write", "/m/new", "y")
	s.Process.User = specs.User{UID: 33, GID: 44}
	mustRun(t, rt, root, s)
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, "new"), &st); err != nil || st.Uid != 1000 || st.Gid != 1000 {
		t.Errorf("%v: owner %d:%d, want 1000:1000", err, st.Uid, st.Gid)
	}
	// By the container's own mapping, ids are the same on both sides.
	s = spec([]string{"rbind", "idmap"}, nil, nil, "cat", "/m/file")
	mapTo(s, 0)
	s.Process.User = specs.User{UID: 1000, GID: 1000}
	if got := mustRun(t, rt, root, s); got != "x" {
		t.Errorf("by the container's mapping: %q", got)
	}

	var unsupported *UnsupportedError
	for name, s := range map[string]*specs.Spec{
		"half a mapping":       spec([]string{"bind"}, ids(0, 1, 1), nil),
		"no mapping to be had": spec([]string{"bind", "idmap"}, nil, nil),
		"what is no bind mount": func() *specs.Spec {
			s := probeSpec(t)
			s.Mounts[1].Options = append(s.Mounts[1].Options, "idmap")
			return s
		}(),
	} {
		if err := validate(s); !errors.As(err, &unsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if r := runOnce(t, rt, root, spec([]string{"bind"}, ids(0, 0, 1), []specs.LinuxIDMapping{{ContainerID: 0, HostID: 0, Size: 2}, {ContainerID: 1, HostID: 5, Size: 1}}, "exit", "0"), CreateOptions{}); r.err == nil {
		t.Errorf("ranges that overlap: %+v", r)
	}
}
