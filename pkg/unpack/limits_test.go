package unpack

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/pkg/layers/changeset"
	"peel/pkg/layers/tar"
)

// TestAnImageOverALimitStopsAndLeavesNothing: the error names the layer and the
// entry, and the limit.
func TestAnImageOverALimitStopsAndLeavesNothing(t *testing.T) {
	var manyDirs, manyWhiteouts, manyLinks strings.Builder
	for i := range 20 {
		fmt.Fprintf(&manyDirs, "dir d%d;", i)
		fmt.Fprintf(&manyWhiteouts, "file .wh.d%d;", i)
		fmt.Fprintf(&manyLinks, "hard h%d a;", i)
	}
	for _, c := range []struct {
		name   string
		limits Limits
		layers []string
		entry  string // of layer 1; empty where either may be the one too many
		got    int64
	}{
		{"entries, of all layers", Limits{Entries: 3}, []string{"file a 1; file b 2", "file c 3; file d 4; file e 5"}, "", 4},
		{"bytes, of all layers", Limits{Bytes: 10}, []string{"file a 123456", "file b 123456"}, "", 12},
		{"bytes of a file", Limits{FileBytes: 5}, []string{"file a 12345", "file b 123456"}, "b", 6},
		{"depth", Limits{Depth: 3}, []string{"file a/b/c/f 1", "file a/b/c/d/f 1"}, "a/b/c/d/f", 4},
		{"depth through a link", Limits{Depth: 3}, []string{"file x 1", "dir a/b; link l a/b; file l/c/d/f 1"}, "l/c/d/f", 4},
		{"directories", Limits{Kept: 10}, []string{"file x 1", manyDirs.String()}, "d10/", 11},
		{"whiteouts", Limits{Kept: 10}, []string{"file x 1", manyWhiteouts.String()}, ".wh.d10", 11},
		{"links to lower layers", Limits{Kept: 10}, []string{"file a 1", manyLinks.String()}, "h10", 11},
	} {
		t.Run(c.name, func(t *testing.T) {
			work := workDir(t)
			src, img := imageOfText(c.layers...)
			_, err := Image(context.Background(), src, img, filepath.Join(work, "d"), Options{Form: Rootfs, Limits: c.limits, Jobs: 1})
			var limit *LimitError
			var layer *LayerError
			var entry *EntryError
			if !errors.As(err, &limit) || !errors.As(err, &layer) || !errors.As(err, &entry) {
				t.Fatalf("%v: want a LimitError in an EntryError in a LayerError", err)
			}
			if limit.Got != c.got || c.entry != "" && (layer.Index != 1 || entry.Name != c.entry) {
				t.Errorf("%v: want %d for entry %s of layer 1", err, c.got, c.entry)
			}
			nothingIn(t, work)
		})
	}
}

func nothingIn(t testing.TB, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestLimitsOfTheTarHold(t *testing.T) {
	work := workDir(t)
	src, img := imageOfText("file " + strings.Repeat("n/", 100) + "f 1")
	_, err := Image(context.Background(), src, img, filepath.Join(work, "d"), Options{Limits: Limits{Tar: tar.Limits{Name: 50}}})
	var limit *tar.LimitError
	if !errors.As(err, &limit) {
		t.Errorf("%v: want the tar's LimitError", err)
	}
	nothingIn(t, work)
}

// TestABombStopsAtItsRatio: some MiB of DEFLATE stand for more than a GiB.
func TestABombStopsAtItsRatio(t *testing.T) {
	const size = 3 << 30
	head := tarOf([]entry{{kind: "file", name: "zeros"}})[:512]
	h := bytes.Clone(head)
	copy(h[124:136], fmt.Sprintf("%011o\x00", int64(size)))
	copy(h[148:156], "        ")
	sum := 0
	for _, b := range h {
		sum += int(b)
	}
	copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
	var blob bytes.Buffer
	z, err := gzip.NewWriterLevel(&blob, gzip.BestSpeed)
	must(err)
	_, err = z.Write(h)
	must(err)
	zeros := make([]byte, 1<<20)
	for range 20 { // the header's promise is enough
		_, err = z.Write(zeros)
		must(err)
	}
	must(z.Close())

	work := workDir(t)
	src, img := imageOf(blob.Bytes())
	img.Manifest.Layers[0].MediaType = ocispec.MediaTypeImageLayerGzip
	img.Config.RootFS.DiffIDs[0] = digest.FromString("never reached")
	_, err = Image(context.Background(), src, img, filepath.Join(work, "d"), Options{})
	var limit *LimitError
	if !errors.As(err, &limit) || limit.Limit != changeset.RatioFloor {
		t.Errorf("%v: want a LimitError of %d", err, changeset.RatioFloor)
	}
	nothingIn(t, work)
}
