package unpack

import (
	"context"
	"io"
	"path/filepath"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/pkg/progress"
)

// lastFirst delivers the blobs of an image one after the other, the top layer's
// first: none begins before the one above it has been read to its end.
type lastFirst struct {
	blobs
	began map[digest.Digest]chan struct{} // closed when the blob may begin
	ended map[digest.Digest]chan struct{} // the next one's began
}

func (l *lastFirst) Blob(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	r, err := l.blobs.Blob(ctx, d)
	return &gated{ReadCloser: r, began: l.began[d.Digest], ended: l.ended[d.Digest]}, err
}

type gated struct {
	io.ReadCloser
	began, ended chan struct{}
	once         sync.Once
}

func (g *gated) Read(p []byte) (int, error) {
	<-g.began
	n, err := g.ReadCloser.Read(p)
	if err == io.EOF {
		g.once.Do(func() { close(g.ended) })
	}
	return n, err
}

func TestBlobsMayArriveInAnyOrder(t *testing.T) {
	for _, jobs := range []int{0, 1} {
		src, img := imageOfText("file a 0; file b 0", "file a 1; file .wh.b", "file a 2", "file a 3", "file a 4")
		l := &lastFirst{src, map[digest.Digest]chan struct{}{}, map[digest.Digest]chan struct{}{}}
		next := make(chan struct{})
		close(next)
		for i := len(img.Manifest.Layers) - 1; i >= 0; i-- {
			d := img.Manifest.Layers[i].Digest
			l.began[d] = next
			next = make(chan struct{})
			l.ended[d] = next
		}
		var mu sync.Mutex
		unpacked := map[digest.Digest]bool{}
		dir := filepath.Join(workDir(t), "d")
		stats, err := Image(context.Background(), l, img, dir, Options{Form: Rootfs, Jobs: jobs, Progress: func(e progress.Event) {
			mu.Lock()
			defer mu.Unlock()
			if e.Kind == progress.Unpacked {
				unpacked[e.Digest] = true
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		if names := namesIn(dir); len(names) != 1 || len(unpacked) != 5 || stats != (Stats{Layers: 5, Entries: 7, Bytes: 6}) {
			t.Errorf("jobs %d: %v, %d layers told, %+v", jobs, names, len(unpacked), stats)
		}
	}
}

func TestAMislabelledLayerIsUnpackedWithAWarning(t *testing.T) {
	src, img := imageOfText("file a 0")
	img.Manifest.Layers[0].MediaType = ocispec.MediaTypeImageLayerZstd
	var warn warnings
	if _, err := Image(context.Background(), src, img, filepath.Join(workDir(t), "d"), Options{Progress: warn.add}); err != nil {
		t.Fatal(err)
	}
	if len(warn.texts) == 0 || warn.texts[0] != "the layer is labelled zstd and is none" {
		t.Errorf("warnings: %q", warn.texts)
	}
}
