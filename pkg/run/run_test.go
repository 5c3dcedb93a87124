package run

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"golang.org/x/sys/unix"
	"peel/pkg/bundle"
)

func TestMain(m *testing.M) {
	if os.Getenv(openSelf) != "" {
		openOurselves()
	}
	Dispatch(nil)
	if how := os.Getenv(callerEnv); how != "" {
		os.Exit(callerMain(how))
	}
	dir, err := os.MkdirTemp("", "peel-probe-")
	if err != nil {
		panic(err)
	}
	probeDir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

var probeDir string // set once, by TestMain

// needRoot skips what only root of the machine can do.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root")
	}
	if err := unix.Access("/sys/fs/cgroup", unix.W_OK); err != nil {
		t.Skip("SKIPPED: needs a writable /sys/fs/cgroup")
	}
}

// probe is the path of the program that tells what it sees in a container.
var probe = sync.OnceValues(func() (string, error) {
	if made := os.Getenv("PEEL_TEST_PROBE"); made != "" {
		return made, nil
	}
	dir := probeDir
	if err := os.Chmod(dir, 0o755); err != nil { // for tests that are other users
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "probe"), "./testdata/probe")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return filepath.Join(dir, "probe"), nil
})

// newRootfs makes a root file system that holds /bin/probe and what files says:
// "path" -> content, a path ending in "/" is a directory, a content beginning
// with "-> " a symbolic link.
func newRootfs(t testing.TB, files map[string]string) string {
	t.Helper()
	bin, err := probe()
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(t.TempDir(), "rootfs")
	if err := os.MkdirAll(filepath.Join(root, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(bin, filepath.Join(root, "bin/probe")); err != nil {
		b, rerr := os.ReadFile(bin)
		if rerr != nil {
			t.Fatal(rerr)
		}
		if err := os.WriteFile(filepath.Join(root, "bin/probe"), b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range files {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		target, link := strings.CutPrefix(content, "-> ")
		switch {
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(p, 0o755)
		case link:
			err = os.Symlink(target, p)
		default:
			err = os.WriteFile(p, []byte(content), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func newRuntime(t testing.TB) *Runtime {
	t.Helper()
	dir := t.TempDir()
	rt, err := Open(Options{Data: filepath.Join(dir, "data"), Run: filepath.Join(dir, "run")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		all, err := rt.List()
		if err != nil {
			t.Error(err)
		}
		for _, c := range all {
			if err := c.Remove(context.Background(), true); err != nil {
				t.Errorf("remove %s: %v", c.Name, err)
			}
		}
		for _, dir := range []string{rt.containers(), rt.run} {
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("%s still holds %v", dir, left)
			}
		}
	})
	return rt
}

// probeSpec runs the probe with docker's defaults.
func probeSpec(t testing.TB, args ...string) *specs.Spec {
	t.Helper()
	s := bundle.Default()
	s.Process.Args = append([]string{"/bin/probe"}, args...)
	s.Linux.Sysctl = nil // many take away the namespace that they belong to
	var err error
	if s.Linux.Seccomp, err = bundle.DefaultSeccomp(s); err != nil {
		t.Fatal(err)
	}
	return s
}

type result struct {
	code           int
	stdout, stderr string
	err            error
}

// runOnce creates, runs and removes a container and returns what it said.
func runOnce(t testing.TB, rt *Runtime, root string, spec *specs.Spec, o CreateOptions) result {
	t.Helper()
	o.AutoRemove = true
	c, err := rt.Create(t.Context(), Rootfs{Dir: root}, spec, o)
	if err != nil {
		return result{err: err}
	}
	outR, outW := newPipe(t)
	errR, errW := newPipe(t)
	p, err := c.Start(Streams{Out: outW, Err: errW})
	outW.Close()
	errW.Close()
	if err != nil {
		if rerr := c.Remove(t.Context(), true); rerr != nil {
			t.Error(rerr)
		}
		return result{err: err}
	}
	var stdout, stderr bytes.Buffer
	var wg sync.WaitGroup
	wg.Go(func() { io.Copy(&stdout, outR) })
	wg.Go(func() { io.Copy(&stderr, errR) })
	code, err := p.Wait()
	wg.Wait()
	return result{code, stdout.String(), stderr.String(), err}
}

func newPipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// exchange swaps two names in one step.
func exchange(a, b string) error {
	return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
}

func boxOf(width, height uint) *specs.Box { return &specs.Box{Width: width, Height: height} }
