package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/e2e/layout"
)

func TestPullOfWhatIsThereAsksForNothing(t *testing.T) {
	p, ref := throughProxy(t, published(t, "nginx"))
	c := peel(t, t.TempDir())
	if r := c.ok(t, "pull", ref); !strings.Contains(r.stderr, "Status: Downloaded newer image for "+ref) {
		t.Errorf("first pull says\n%s", r.stderr)
	}
	for blob, n := range blobGets(p.requests()) {
		if n != 1 {
			t.Errorf("%s was fetched %d times", blob, n)
		}
	}
	if r := c.ok(t, "pull", ref); r.stderr != "Status: Image is up to date for "+ref+"\n" || r.stdout != "" {
		t.Errorf("second pull says %q and %q", r.stdout, r.stderr)
	}
	for _, r := range p.requests() {
		if r.method != "HEAD" {
			t.Errorf("second pull asks for %s %s", r.method, r.path)
		}
	}
	if got, want := c.ok(t, "pull", "-q", ref).stdout, shared.pushed["nginx"].Digest.String()+"\n"; got != want {
		t.Errorf("pull -q prints %q, want %q", got, want)
	}
}

func TestTwoPullsAtOnceFetchEachBlobOnce(t *testing.T) {
	p, ref := throughProxy(t, published(t, "big"))
	c := peel(t, t.TempDir())
	p.hold(true)
	first := c.command(t.Context(), "pull", "-q", ref)
	second := c.command(t.Context(), "pull", "-q", ref)
	var says [2]bytes.Buffer
	first.Stderr, second.Stderr = &says[0], &says[1]
	p.startHeld(t, first)
	if err := second.Start(); err != nil {
		t.Fatal(err)
	}
	// Once the second has asked for the manifest, it is a matter of the store
	// alone that it fetches nothing which the first is fetching.
	p.waitFor("HEAD", 2)
	p.release()
	for i, cmd := range []*exec.Cmd{first, second} {
		if err := cmd.Wait(); err != nil {
			t.Errorf("pull %d: %v: %s", i+1, err, says[i].Bytes())
		}
	}
	var size int64
	for _, l := range manifestOf(t, "big").Layers {
		size += l.Size
	}
	if got := blobBytes(p.requests()); got > size+1<<20 {
		t.Errorf("%d bytes of blobs were sent, all layers have %d", got, size)
	}
}

func TestPullGoesOnAfterKill(t *testing.T) {
	for _, c := range []struct {
		claim  string
		signal syscall.Signal
		code   int // -1 for death by signal
	}{
		{"kill -9", syscall.SIGKILL, -1},
		{"Ctrl-C", syscall.SIGINT, 130},
	} {
		t.Run(c.claim, func(t *testing.T) {
			p, ref := throughProxy(t, published(t, "nginx"))
			dir := t.TempDir()
			peel := peel(t, dir)
			p.hold(true)
			cmd := peel.command(t.Context(), "unpack", ref, filepath.Join(dir, "bundle"))
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			p.startHeld(t, cmd)
			waitUntil(t, func() bool { return sizeOf(t, peel.root) >= 1<<20 })
			if err := cmd.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			if code := exitCode(cmd.Wait()); code != c.code {
				t.Errorf("exit code %d, want %d: %s", code, c.code, stderr.Bytes())
			}
			p.requests()
			kept := sizeOf(t, peel.root)
			if _, err := os.Lstat(filepath.Join(dir, "bundle")); err == nil {
				t.Error("the bundle is there")
			}
			if out := peel.ok(t, "images", "-q").stdout; out != "" {
				t.Errorf("the store lists %q", out)
			}

			p.hold(false)
			peel.ok(t, "unpack", "-q", ref, filepath.Join(dir, "bundle"))
			var size int64
			for _, l := range manifestOf(t, "nginx").Layers {
				size += l.Size
			}
			if again := blobBytes(p.requests()); again > size-kept+1<<20 { // and the config, and what else the store holds
				t.Errorf("of %d bytes the store had %d, and %d were sent again", size, kept, again)
			}
			onlyThese(t, dir, "bundle", "store")
		})
	}
}

func TestPlatformChoosesTheImage(t *testing.T) {
	ref := published(t, "multi")
	dir := t.TempDir()
	c := peel(t, dir)
	for platform, want := range map[string]string{"linux/amd64": "amd64", "linux/arm64": "arm64", "linux/arm64/v8": "arm64"} {
		rootfs := filepath.Join(dir, strings.ReplaceAll(platform, "/", "-"))
		c.ok(t, "unpack", "-q", "--rootfs", "--platform", platform, "--pull", "always", ref, rootfs)
		if got, err := os.ReadFile(filepath.Join(rootfs, "arch")); err != nil || string(got) != want+"\n" {
			t.Errorf("%s unpacks the image for %s (%v)", platform, got, err)
		}
	}
	r := c.run(t, "pull", "--platform", "linux/s390x", ref)
	if r.code != 125 || !strings.Contains(r.stderr, "linux/amd64") || !strings.Contains(r.stderr, "linux/arm64") || strings.Contains(r.stderr, "unknown") {
		t.Errorf("a platform that is not there: %d %s", r.code, r.stderr)
	}
}

// The store is an OCI layout that other tools read.
func TestOthersReadTheStore(t *testing.T) {
	ref := published(t, "nginx")
	need(t, "skopeo")
	dir := t.TempDir()
	c := peel(t, dir)
	c.ok(t, "pull", "-q", ref)
	images := filepath.Join(c.root, "images")
	want := manifestOf(t, "nginx")

	t.Run("skopeo", func(t *testing.T) {
		var got ocispec.Manifest
		raw := output(t, "skopeo", "inspect", "--raw", "oci:"+images)
		if err := json.Unmarshal([]byte(raw), &got); err != nil || got.Config.Digest != want.Config.Digest {
			t.Errorf("reads %s (%v)", raw, err)
		}
		output(t, "skopeo", "copy", "-q", "oci:"+images, "dir:"+filepath.Join(dir, "copy"))
	})
	t.Run("umoci", func(t *testing.T) {
		names := strings.Fields(output(t, tool(t, "umoci"), "list", "--layout", images))
		if len(names) != 1 || names[0] != ref {
			t.Errorf("lists %q, want %s", names, ref)
		}
	})
	t.Run("crane", func(t *testing.T) {
		to := strings.TrimSuffix(ref, "library/nginx:latest") + "from/peel:latest"
		output(t, tool(t, "crane"), "push", images, to)
		if got := strings.TrimSpace(output(t, tool(t, "crane"), "config", to)); !strings.Contains(got, "SIGQUIT") {
			t.Errorf("pushes %s", got)
		}
	})
}

// And it is not disturbed by them: what another tool put there is left alone.
func TestStoreKeepsWhatOthersWrite(t *testing.T) {
	ref := published(t, "multi")
	need(t, "skopeo")
	dir := t.TempDir()
	c := peel(t, dir)
	c.ok(t, "pull", "-q", ref)
	images := filepath.Join(c.root, "images")
	output(t, "skopeo", "copy", "-q", "--src-tls-verify=false", "docker://"+published(t, "odd"), "oci:"+images+":example.org/odd:1")
	c.ok(t, "unpack", "-q", "--rootfs", "--pull", "never", "example.org/odd:1", filepath.Join(dir, "odd"))
	c.ok(t, "pull", "-q", published(t, "nginx"))
	if out := c.ok(t, "images").stdout; !strings.Contains(out, "example.org/odd") || !strings.Contains(out, "library/nginx") {
		t.Errorf("images prints\n%s", out)
	}
}

// manifestOf is the manifest of an image for this machine.
func manifestOf(t *testing.T, name string) ocispec.Manifest {
	t.Helper()
	l := image(t, name)
	root, err := l.Root()
	if err != nil {
		t.Fatal(err)
	}
	if root.MediaType == ocispec.MediaTypeImageIndex {
		var idx ocispec.Index
		if err := l.ReadJSON(root, &idx); err != nil {
			t.Fatal(err)
		}
		root = idx.Manifests[0]
	}
	return read[ocispec.Manifest](t, l, root)
}

func read[T any](t *testing.T, l *layout.Dir, d ocispec.Descriptor) (v T) {
	t.Helper()
	if err := l.ReadJSON(d, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// waitUntil looks again and again whether what another process does has come to
// the point; where it never does, the test's own time limit ends it.
func waitUntil(t *testing.T, there func() bool) {
	t.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for !there() {
		select {
		case <-again.C:
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

// sizeOf sums the sizes of the files below a directory that may be changing.
func sizeOf(t *testing.T, dir string) int64 {
	t.Helper()
	var n int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = d.Info(); err == nil {
				n += info.Size()
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it went away in between
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// onlyThese fails if dir holds anything but the names.
func onlyThese(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if fmt.Sprint(got) != fmt.Sprint(names) {
		t.Errorf("left behind: %q, want %q", got, names)
	}
}
