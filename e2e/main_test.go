package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/e2e/images"
	"peel/e2e/layout"
	"peel/e2e/registry"
)

// lab is what the tests share. Each part is made when a test first asks for it
// and goes at the end of the run.
type lab struct {
	dir   string // temporary
	cache *images.Cache

	registry func() (*registry.Registry, error)
	tools    func() (string, error) // the directory of crane and umoci
	peel     func() (string, error) // the binary

	mu     sync.Mutex
	pushed map[string]ocispec.Descriptor // by image name; guarded by mu
}

var shared *lab // set by TestMain, before any test

func TestMain(m *testing.M) {
	if url := os.Getenv(getEnv); url != "" {
		os.Exit(get(url))
	}
	os.Exit(withLab(m.Run))
}

func withLab(tests func() int) int {
	dir, err := os.MkdirTemp("", "peel-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	l := &lab{dir: dir, cache: images.FromEnv(), pushed: map[string]ocispec.Descriptor{}}
	l.cache.Log = os.Stderr
	var stop func() error
	l.registry = sync.OnceValues(func() (*registry.Registry, error) {
		data := filepath.Join(dir, "registry")
		if err := os.Mkdir(data, 0o755); err != nil {
			return nil, err
		}
		r, err := registry.Start(context.Background(), data, registry.Options{})
		if err == nil {
			stop = r.Stop
		}
		return r, err
	})
	l.tools = sync.OnceValues(func() (string, error) {
		bin := filepath.Join(dir, "tools")
		return bin, goBuild("tools", "-o", bin+"/", "tool")
	})
	l.peel = sync.OnceValues(func() (string, error) {
		bin := filepath.Join(dir, "peel")
		return bin, goBuild("..", "-trimpath", "-o", bin, "./cmd/peel")
	})
	shared = l
	code := tests()
	if stop != nil {
		if err := stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stopping the registry:", err)
			code = max(code, 1)
		}
	}
	return code
}

func goBuild(dir string, args ...string) error {
	cmd := exec.Command("go", append([]string{"build"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// skip says which capability of the machine is missing, in a form that is easy
// to find in a log.
func skip(t *testing.T, missing string) {
	t.Helper()
	t.Skipf("SKIPPED: this machine lacks %s (e2e/setup.sh, as root, installs what the tests need)", missing)
}

// need skips the test unless it runs as root and each program is there.
func need(t *testing.T, programs ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		skip(t, "root")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			skip(t, p)
		}
	}
}

// image returns a layout from the cache, making it where it is missing.
func image(t *testing.T, name string) *layout.Dir {
	t.Helper()
	l, err := shared.cache.Image(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// published returns the reference by which the shared registry serves an image.
func published(t *testing.T, name string) string {
	t.Helper()
	need(t, "docker-registry", "debootstrap")
	l := image(t, name)
	r, err := shared.registry()
	if err != nil {
		t.Fatal(err)
	}
	repo, tag := images.Place(name)
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if _, done := shared.pushed[name]; !done {
		desc, err := r.Push(t.Context(), l, repo, tag)
		if err != nil {
			t.Fatal(err)
		}
		shared.pushed[name] = desc
	}
	return r.Addr + "/" + repo + ":" + tag
}

// tool returns the path of a peer that is built from e2e/tools.
func tool(t *testing.T, name string) string {
	t.Helper()
	dir, err := shared.tools()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// output runs a program that must succeed and returns what it prints.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s%s", filepath.Base(name), strings.Join(args, " "), err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.String()
}

// host is the platform of the images that are made for the machine.
func host() string { return "linux/" + runtime.GOARCH }

// exitCode is a finished command's, whatever the error.
func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}
