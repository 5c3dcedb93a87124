package commit

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/pkg/layers"
	"peel/pkg/layout"
	"peel/pkg/store"
)

// read reads a blob of a published layout as JSON.
func read(t *testing.T, dir string, d digest.Digest, v any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "blobs/sha256", d.Encoded()))
	if err != nil {
		t.Fatal(err)
	}
	if digest.FromBytes(b) != d {
		t.Fatalf("blob %s has other bytes", d)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
}

func text(s string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, s)
		return err
	}
}

func change(t *testing.T, line string) Change {
	t.Helper()
	c, err := ParseChange(line)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLayerOnTopOfAnImage(t *testing.T) {
	lower := "sha256:" + strings.Repeat("1", 64)
	base := Base{
		Config: []byte(`{"architecture":"riscv64","os":"linux","author":"old","variant":"v","x-own":[1],"container_config":{"a":1},
			"config":{"Cmd":["old"],"User":"web","Healthcheck":{"Test":["NONE"]}},
			"rootfs":{"type":"layers","diff_ids":["` + lower + `"]},"history":[{"created_by":"base"}]}`),
		Layers: []ocispec.Descriptor{{MediaType: "application/vnd.docker.image.rootfs.diff.tar.gzip", Digest: digest.Digest(lower), Size: 7}},
	}
	dir := filepath.Join(t.TempDir(), "layout")
	s, err := layout.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	created := time.Unix(1e9, 5)
	d, err := Layer(s, base, text("a tar"), Options{
		Author: "me", Comment: "why", CreatedBy: "test", Created: created, Compression: layers.None,
		Changes: []Change{change(t, `CMD ["new"]`), change(t, `USER root`)},
		// Of no account: the base says what it is for.
		Platform: ocispec.Platform{OS: "plan9", Architecture: "mips"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Publish(t.Context(), d, "latest"); err != nil {
		t.Fatal(err)
	}
	var m ocispec.Manifest
	read(t, dir, d.Digest, &m)
	top := digest.FromString("a tar")
	if len(m.Layers) != 2 || m.Layers[0].Digest != digest.Digest(lower) || m.Layers[0].MediaType != ocispec.MediaTypeImageLayerGzip ||
		m.Layers[1].Digest != top || m.Layers[1].Size != 5 || m.Layers[1].MediaType != ocispec.MediaTypeImageLayer {
		t.Errorf("layers %v", m.Layers)
	}
	var raw json.RawMessage
	read(t, dir, m.Config.Digest, &raw)
	const want = `{"architecture":"riscv64","author":"me","config":{"Cmd":["new"],"Healthcheck":{"Test":["NONE"]},"User":"root"},` +
		`"created":"2001-09-09T01:46:40.000000005Z","history":[{"created_by":"base"},{"created":"2001-09-09T01:46:40.000000005Z","created_by":"test","author":"me","comment":"why"}],` +
		`"os":"linux","rootfs":{"type":"layers","diff_ids":["LOWER","TOP"]},"variant":"v","x-own":[1]}`
	if w := strings.NewReplacer("LOWER", lower, "TOP", top.String()).Replace(want); string(raw) != w {
		t.Errorf("config\n%s\nwant\n%s", raw, w)
	}
	if d.Platform == nil || d.Platform.Architecture != "riscv64" {
		t.Errorf("platform %v", d.Platform)
	}
}

func TestSquashedLayerForgetsThoseBelow(t *testing.T) {
	base := Base{Config: []byte(`{"architecture":"arm64","os":"linux","config":{"Env":["A=b"]},
		"rootfs":{"type":"layers","diff_ids":["sha256:` + strings.Repeat("1", 64) + `"]},"history":[{"created_by":"base"}]}`)}
	dir := filepath.Join(t.TempDir(), "layout")
	var manifests []digest.Digest
	for range 2 { // and once more, to the same bytes
		s, err := layout.New(dir)
		if err != nil {
			t.Fatal(err)
		}
		d, err := Layer(s, base, text(strings.Repeat("tar", 1<<20)), Options{CreatedBy: "test", Created: time.Unix(0, 0)})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.Publish(t.Context(), d, "latest"), s.Close()); err != nil {
			t.Fatal(err)
		}
		manifests = append(manifests, d.Digest)
	}
	if manifests[0] != manifests[1] {
		t.Errorf("manifests %v", manifests)
	}
	var m ocispec.Manifest
	read(t, dir, manifests[0], &m)
	var c ocispec.Image
	read(t, dir, m.Config.Digest, &c)
	if len(m.Layers) != 1 || len(c.RootFS.DiffIDs) != 1 || len(c.History) != 1 || c.RootFS.DiffIDs[0] != digest.FromString(strings.Repeat("tar", 1<<20)) {
		t.Errorf("layers %v, config %+v", m.Layers, c)
	}
	if len(c.Config.Env) != 1 || c.Architecture != "arm64" {
		t.Errorf("config %+v", c)
	}
}

func TestFailureOfTheTarLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	s, err := layout.New(filepath.Join(dir, "layout"))
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	_, err = Layer(s, Base{}, func(w io.Writer) error { return errors.Join(text("half")(w), broken) }, Options{})
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if list, _ := os.ReadDir(dir); len(list) > 0 {
		t.Errorf("left behind: %v", list)
	}
}

func TestConfigThatIsNoneIsAnError(t *testing.T) {
	for _, b := range []string{`[]`, `{`, `{"config":3}`, `{"rootfs":{"diff_ids":"x"}}`} {
		if err := new(config).parse([]byte(b)); err == nil {
			t.Errorf("%s is taken", b)
		}
	}
}

func TestCopyOfAnImage(t *testing.T) {
	st, img := storedImage(t)
	dir := filepath.Join(t.TempDir(), "layout")
	s, err := layout.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	d, err := Copy(t.Context(), s, st, img)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Publish(t.Context(), d, "a"); err != nil {
		t.Fatal(err)
	}
	var m ocispec.Manifest
	read(t, dir, img.Descriptor.Digest, &m)
	for _, d := range append(m.Layers, m.Config) {
		b, err := os.ReadFile(filepath.Join(dir, "blobs/sha256", d.Digest.Encoded()))
		if err != nil || digest.FromBytes(b) != d.Digest {
			t.Errorf("blob %s: %v", d.Digest, err)
		}
	}
}

func TestManifestOfDockersBecomesOneOfOCI(t *testing.T) {
	st, img := storedImage(t)
	img.Descriptor.MediaType = dockerManifest
	img.Manifest.MediaType = dockerManifest
	img.Manifest.Layers[0].MediaType = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	dir := filepath.Join(t.TempDir(), "layout")
	s, err := layout.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	d, err := Copy(t.Context(), s, st, img)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Publish(t.Context(), d, "a"); err != nil {
		t.Fatal(err)
	}
	var m ocispec.Manifest
	read(t, dir, d.Digest, &m)
	if d.MediaType != ocispec.MediaTypeImageManifest || m.MediaType != d.MediaType || m.Config.MediaType != ocispec.MediaTypeImageConfig ||
		m.Layers[0].MediaType != ocispec.MediaTypeImageLayerGzip || m.Layers[0].Digest != img.Manifest.Layers[0].Digest {
		t.Errorf("manifest %+v", m)
	}
}

func TestRottenLayerIsNotCopied(t *testing.T) {
	st, img := storedImage(t)
	rot := img.Manifest.Layers[0].Digest
	if err := os.WriteFile(filepath.Join(st.Layout(), "blobs/sha256", rot.Encoded()), []byte("layeR"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := layout.New(filepath.Join(t.TempDir(), "layout"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = Copy(t.Context(), s, st, img)
	var damaged *store.DamagedError
	if !errors.As(err, &damaged) || damaged.Digest != rot {
		t.Errorf("got %v, want a DamagedError of %s", err, rot)
	}
}

// storedImage is an image with one layer, "layer", in a store.
func storedImage(t *testing.T) (*store.Store, *store.Image) {
	t.Helper()
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	put := func(mediaType string, b []byte) ocispec.Descriptor {
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
		if err := st.WriteBlob(context.Background(), d, b); err != nil {
			t.Fatal(err)
		}
		return d
	}
	layer := put(ocispec.MediaTypeImageLayer, []byte("layer"))
	c, _ := json.Marshal(ocispec.Image{RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{layer.Digest}}})
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: put(ocispec.MediaTypeImageConfig, c), Layers: []ocispec.Descriptor{layer}}
	m.SchemaVersion = 2
	b, _ := json.Marshal(m)
	img, err := store.NewImage(put(ocispec.MediaTypeImageManifest, b), b, c)
	if err != nil {
		t.Fatal(err)
	}
	return st, img
}
