package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/pkg/image"
	"peel/pkg/run"
)

// canRun says whether containers can run here.
func canRun() bool {
	dir, err := os.MkdirTemp("/sys/fs/cgroup/"+firstCgroup(), "peel-test-")
	if err != nil {
		return false
	}
	os.Remove(dir)
	return os.Geteuid() == 0
}

// canMountImages says whether prepared images can be mounted here.
func canMountImages(t *testing.T) bool {
	cache, err := image.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	err = cache.Check()
	var unsupported *image.UnsupportedError
	if err != nil && !errors.As(err, &unsupported) {
		t.Fatal(err)
	}
	return err == nil
}

// firstCgroup is a directory in which cgroups can be made: version 1 has one for
// each controller.
func firstCgroup() string {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err != nil {
		return "pids"
	}
	return ""
}

// buildProbe compiles the program that tells what it sees in a container.
func buildProbe(t *testing.T) string {
	t.Helper()
	if made := os.Getenv("PEEL_TEST_PROBE"); made != "" {
		return made
	}
	name := filepath.Join(t.TempDir(), "probe")
	cmd := exec.Command("go", "build", "-o", name, "../../pkg/run/testdata/probe")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return name
}

// publishProbe adds an image whose command is the probe.
func (r *fakeRegistry) publishProbe(t *testing.T, file string) {
	t.Helper()
	program, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range []struct {
		name    string
		mode    int64
		content []byte
	}{
		{"bin/probe", 0o755, program}, {"etc/passwd", 0o644, []byte("root:x:0:0::/root:\nweb:x:33:33::/var/www:\n")},
		{"etc/group", 0o644, []byte("root:x:0:\nweb:x:33:\nadm:x:4:web\n")}, {"bin/broken", 0o755, []byte("#!/bin/bash\n")},
	} {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.content)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		w.Write(f.content)
	}
	w.Close()
	var seed bytes.Buffer
	w = tar.NewWriter(&seed)
	if err := w.WriteHeader(&tar.Header{Name: "srv/data/seed", Mode: 0o644, Size: 5, Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	w.Write([]byte("seed\n"))
	w.Close()
	r.image("probe:latest", []typed{{tarLayer, b.Bytes()}}, func(_ *ocispec.Manifest, c *ocispec.Image) {
		c.Config.Entrypoint, c.Config.Cmd = []string{"/bin/probe"}, []string{"print", "default"}
		c.Config.Env, c.Config.WorkingDir = []string{"PATH=/bin", "A=image"}, "/made/by/peel"
	})
	r.image("volumes:latest", []typed{{tarLayer, b.Bytes()}, {tarLayer, seed.Bytes()}}, func(_ *ocispec.Manifest, c *ocispec.Image) {
		c.Config.Entrypoint = []string{"/bin/probe"}
		c.Config.Volumes = map[string]struct{}{"/srv/data": {}}
	})
	r.requests()
}

// removeContainers ends what a script that failed has left running.
func removeContainers(e *testscript.Env, root string) func() {
	return func() {
		rt, err := run.Open(run.Options{Data: root})
		if err != nil {
			return
		}
		list, err := rt.List()
		if err != nil {
			return
		}
		for _, c := range list {
			if err := c.Remove(context.Background(), true); err != nil {
				e.T().Log(err)
			}
		}
	}
}
