package image

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/pkg/image/merge"
	"peel/pkg/layers"
	"peel/pkg/layers/changeset"
	tarreader "peel/pkg/layers/tar"
	"peel/pkg/store"
)

func TestPruneKeepsWhatIsNeeded(t *testing.T) {
	c := open(t)
	tars := layersOf(t)
	src, img := imageOf(t, tars...)
	p := prepare(t, c, src, img)
	src2, other := imageOf(t, tars[0], tarOf(t, file("other", strings.Repeat("x", 100_000))))
	q := prepare(t, c, src2, other)
	if _, err := c.Prune(keeping(img), os.RemoveAll); !errors.Is(err, ErrInUse) {
		t.Errorf("while they are open: %v", err)
	}
	p.Close()
	q.Close()
	if err := os.WriteFile(c.root+"/layers/ingest/left", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	freed, err := c.Prune(keeping(img), os.RemoveAll)
	if err != nil || freed < 100_000 || freed > 200_000 {
		t.Errorf("freed %d, %v", freed, err)
	}
	nothingLeft(t, c)
	if _, err := c.Find(IDOf(other)); !errors.Is(err, ErrNotFound) {
		t.Errorf("the other one: %v", err)
	}
	if p, err = c.Find(IDOf(img)); err != nil {
		t.Fatal(err)
	}
	p.Close()
	if _, err := c.Prune(keeping(), os.RemoveAll); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(c.root + "/layers/sha256"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestLimitsHold(t *testing.T) {
	src, img := imageOf(t, tarOf(t, file("a", "1"), file("b", strings.Repeat("x", 10_000))))
	for _, l := range []changeset.Limits{{Entries: 1}, {FileBytes: 9999}, {Bytes: 9999}} {
		c := open(t)
		_, err := c.Prepare(context.Background(), src, img, Options{Limits: l})
		var limit *changeset.LimitError
		if !errors.As(err, &limit) {
			t.Errorf("%+v: %v", l, err)
		}
		nothingLeft(t, c)
	}
}

// What lies behind the end of an archive has no header that could tell its size.
func TestBytesBehindTheArchiveCountToo(t *testing.T) {
	tarball := append(tarOf(t, file("a", "1")), make([]byte, 10_000)...)
	r, err := layers.Open(ocispec.MediaTypeImageLayer, bytes.NewReader(tarball))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	f := &fetcher{job: &merge.Job{Limits: changeset.Limits{}.WithDefaults(), Losses: &changeset.Losses{}}}
	in := &incoming{dir: t.TempDir(), layer: r, limit: 5000}
	_, err = in.read(context.Background(), f, 0, 1<<20, digest.FromBytes(tarball))
	var limit *changeset.LimitError
	if !errors.As(err, &limit) || limit.Limit != 5000 {
		t.Error(err)
	}
}

func TestScanningPassesOverBodies(t *testing.T) {
	tarball := tarOf(t, file("a", strings.Repeat("x", 10<<20)), file("b", strings.Repeat("y", 5<<20)), file("c", "z"))
	counted := &counter{r: bytes.NewReader(tarball)}
	s := &scanner{f: counted, size: int64(len(tarball))}
	s.Reader = tarreader.NewReader(s.source(), tarreader.Limits{})
	for n := range 4 {
		h, err := s.Next()
		if n == 3 && err == io.EOF {
			break
		}
		if err != nil || string(h.Name) != string("abc"[n]) {
			t.Fatal(h, err)
		}
	}
	if counted.n > 4*scanBytes {
		t.Errorf("read %d bytes", counted.n)
	}
}

type counter struct {
	r io.ReaderAt
	n int
}

func (c *counter) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.r.ReadAt(p, off)
	c.n += n
	return n, err
}

func TestKernelsThatMayTry(t *testing.T) {
	for release, want := range map[string]string{
		"6.13.0": "files", "6.18.44-generic": "files", "7.0.0-rc1": "files", "10.1": "files",
		"6.12.9": "loop devices", "6.4.0": "loop devices",
		"6.3.13": "none", "5.15.0": "none", "": "none", "x.y": "none",
	} {
		h, err := hostOf(release)
		var unsupported *UnsupportedError
		got := "none"
		switch {
		case err == nil && h.files:
			got = "files"
		case err == nil:
			got = "loop devices"
		case !errors.As(err, &unsupported):
			t.Errorf("%q: %v", release, err)
		}
		if got != want {
			t.Errorf("%q: %s, want %s", release, got, want)
		}
	}
}

func keeping(imgs ...*store.Image) func() ([]ID, error) {
	var ids []ID
	for _, img := range imgs {
		ids = append(ids, IDOf(img))
	}
	return func() ([]ID, error) { return ids, nil }
}
