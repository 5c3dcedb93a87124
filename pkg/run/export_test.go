package run

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"peel/pkg/export"
	"peel/pkg/progress"
)

// entriesOf exports a container: an entry a line, those of regular files with their
// content, without those of the machine's.
func entriesOf(t *testing.T, c *Container, o export.Options) string {
	t.Helper()
	var b bytes.Buffer
	if err := c.Export(t.Context(), &b, o); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for r := tar.NewReader(&b); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(h.Name, "srv") {
			fmt.Fprintf(&out, "%s %d:%d %.20s\n", h.Name, h.Uid, h.Gid, content)
		}
	}
}

func writeIn(t *testing.T, c *Container, path, text string) {
	t.Helper()
	if code, out, err := execOutput(t, c, ExecOptions{}, "write", path, text); code != 0 {
		t.Fatalf("write %s: %d %q %v", path, code, out, err)
	}
}

// startExported starts a container whose program waits for SIGTERM.
func startExported(t *testing.T, rt *Runtime, root Rootfs, s *specs.Spec) *Container {
	t.Helper()
	c, err := rt.Create(t.Context(), root, s, CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.StartDetached(); err != nil {
		t.Fatal(err)
	}
	waitForLine(t, c, "ready")
	return c
}

// A user's containers are exported with the owners that they have inside, in a
// directory or under an overlay, running or not.
func TestUsersExportTheirContainers(t *testing.T) {
	if !asUser(t) {
		return
	}
	needUserNamespaces(t)
	const want = "srv/ 0:0 \nsrv/base 0:0 b\nsrv/new 0:0 x\n"
	for name, root := range map[string]func() Rootfs{
		"directory": func() Rootfs { return Rootfs{Dir: newRootfs(t, map[string]string{"srv/base": "b"})} },
		"overlay": func() Rootfs {
			return Rootfs{Lower: []string{newRootfs(t, map[string]string{"srv/": ""}), newRootfs(t, map[string]string{"srv/base": "b"})}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			rt := newRuntime(t)
			c := startExported(t, rt, root(), userSpec(t, "wait"))
			writeIn(t, c, "/srv/new", "x")
			if got := entriesOf(t, c, export.Options{}); got != want {
				t.Errorf("running: got\n%swant\n%s", got, want)
			}
			if err := c.Stop(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
			if got := entriesOf(t, c, export.Options{}); got != want {
				t.Errorf("stopped: got\n%swant\n%s", got, want)
			}
		})
	}
}

func TestOwnersOfAUserNamespaceAreThoseInside(t *testing.T) {
	needRoot(t)
	dir := newRootfs(t, map[string]string{"srv/f": "f"})
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, 100000, 100000))
	})
	if err := errors.Join(err, os.Lchown(filepath.Join(dir, "srv/f"), 100033, 100042), os.Chmod(filepath.Join(dir, "srv/f"), 0)); err != nil {
		t.Fatal(err)
	}
	for name, root := range map[string]Rootfs{"directory": {Dir: dir}, "overlay": {Lower: []string{dir}}} {
		s := probeSpec(t, "exit", "0")
		mapTo(s, 100000)
		c, err := newRuntime(t).Create(t.Context(), root, s, CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		const want = "srv/ 0:0 \nsrv/f 33:42 f\n"
		if got := entriesOf(t, c, export.Options{}); got != want {
			t.Errorf("%s: got\n%swant\n%s", name, got, want)
		}
	}
}

func TestExportOfChangesNeedsAnImage(t *testing.T) {
	needRoot(t)
	c, err := newRuntime(t).Create(t.Context(), Rootfs{Dir: newRootfs(t, nil)}, probeSpec(t, "exit", "0"), CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Export(t.Context(), io.Discard, export.Options{Kind: export.Changes}); !errors.Is(err, ErrNoBase) {
		t.Errorf("got %v", err)
	}
}

// mapped is a container in a user namespace, whose tree is read by another process.
func mapped(t *testing.T, files map[string]string) *Container {
	t.Helper()
	needRoot(t)
	s := probeSpec(t, "exit", "0")
	mapTo(s, 0)
	c, err := newRuntime(t).Create(t.Context(), Rootfs{Dir: newRootfs(t, files)}, s, CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestExportInsideSaysWhatIsLostAndWhatIsWrong(t *testing.T) {
	c := mapped(t, map[string]string{"srv/": ""})
	if err := unix.Mknod(filepath.Join(c.Root.Dir, "sock"), unix.S_IFSOCK|0o600, 0); err != nil {
		t.Fatal(err)
	}
	var warned []string
	o := export.Options{Progress: func(e progress.Event) { warned = append(warned, e.Message) }}
	if err := c.Export(t.Context(), io.Discard, o); err != nil {
		t.Fatal(err)
	}
	if len(warned) != 1 || !strings.Contains(warned[0], "a socket") {
		t.Errorf("warned %q", warned)
	}
	if err := unix.Setxattr(c.Root.Dir+"/srv", "user.containers.override_stat", []byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	err := c.Export(t.Context(), io.Discard, export.Options{Form: export.OverrideStat})
	if err == nil || !strings.Contains(err.Error(), `entry "srv": user.containers.override_stat`) {
		t.Errorf("got %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestExportInsideEndsWithItsWriterAndItsContext(t *testing.T) {
	c := mapped(t, map[string]string{"srv/large": strings.Repeat("x", 8<<20)})
	broken := errors.New("broken")
	err := c.Export(t.Context(), writerFunc(func([]byte) (int, error) { return 0, broken }), export.Options{})
	if !errors.Is(err, broken) {
		t.Errorf("writer: %v", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	if err := c.Export(t.Context(), w, export.Options{}); !errors.Is(err, unix.EPIPE) {
		t.Errorf("closed pipe: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = c.Export(ctx, writerFunc(func(b []byte) (int, error) { cancel(); return len(b), nil }), export.Options{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
