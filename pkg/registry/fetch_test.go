package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"

	"peel/pkg/progress"
	"peel/pkg/store"
)

// noise is a blob that no compression and no accident makes twice.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed)})
	r.Read(b)
	return b
}

// oneLayer is a shelf with an image of one layer, and that layer.
func oneLayer(n int) (*shelf, ocispec.Descriptor) {
	s := newShelf()
	b := noise(1, n)
	s.addImage("linux/amd64", [][]byte{b}, "latest")
	return s, describe(ocispec.MediaTypeImageLayerGzip, b)
}

func mustHold(t *testing.T, st *store.Store, d ocispec.Descriptor, want []byte) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(st.Layout(), "blobs/sha256", d.Digest.Encoded()))
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("blob of %d bytes in the store, want %d: %v", len(got), len(want), err)
	}
}

func TestFetchBringsAllLayersAndTellsOfThem(t *testing.T) {
	s := newShelf()
	small, large := noise(1, 3000), noise(2, 3<<20)
	s.addImage("linux/amd64", [][]byte{small, large, small, {}}, "latest")
	var events recorder
	st := openStore(t, t.TempDir())
	r, err := pull(t, hasty(t, Options{Progress: events.add, Jobs: 1}), serve(t, s)+"/app", st)
	if err != nil {
		t.Fatal(err)
	}
	ls := r.Image.Manifest.Layers
	mustHold(t, st, ls[0], small)
	mustHold(t, st, ls[1], large)
	mustHold(t, st, ls[3], nil)
	var queued []digest.Digest
	for _, e := range events.all(progress.Queued) {
		queued = append(queued, e.Digest)
	}
	if want := []digest.Digest{ls[0].Digest, ls[1].Digest, ls[3].Digest}; !slices.Equal(queued, want) {
		t.Fatalf("queued %v, want each once in the manifest's order: %v", queued, want)
	}
	down := events.all(progress.Downloaded)
	if len(down) != 3 || down[0].Digest != ls[1].Digest || down[0].Current != 3<<20 || down[0].Total != 3<<20 {
		t.Fatalf("downloaded %+v, want the largest first", down)
	}
	// The empty layer needs no request, nor does one listed twice.
	if n := s.count("GET blobs"); n != 3 {
		t.Fatalf("%d blobs asked for, want config and two layers", n)
	}
	// Progress moves on, by steps that are not too small.
	last := int64(0)
	steps := events.all(progress.Downloading)
	for _, e := range steps {
		if e.Digest == ls[1].Digest {
			if e.Current <= last {
				t.Fatalf("progress goes from %d to %d", last, e.Current)
			}
			last = e.Current
		}
	}
	if len(steps) > 2+(3<<20)/progressStep {
		t.Fatalf("%d events for 3 MiB", len(steps))
	}
}

func TestPullBeginsLayersBeforeTheConfigIsThere(t *testing.T) {
	s, d := oneLayer(5000)
	layerAsked := make(chan struct{})
	s.before = func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case strings.HasSuffix(r.URL.Path, d.Digest.String()):
			close(layerAsked)
		case strings.Contains(r.URL.Path, "/blobs/"):
			<-layerAsked // or the test does not end
		}
		return false
	}
	host, st := serve(t, s), openStore(t, t.TempDir())
	var known *Remote
	r, err := hasty(t, Options{}).Pull(t.Context(), mustParse(t, host+"/app"), st, func(r *Remote) { known = r })
	if err != nil {
		t.Fatal(err)
	}
	if known != r || r.UpToDate || len(r.Image.Config.RootFS.DiffIDs) != 1 {
		t.Fatalf("called with %+v, returned %+v", known, r)
	}
	mustHold(t, st, d, s.blobs[d.Digest.String()])

	if err := st.Tag(t.Context(), r.Image.Name, r.Image); err != nil {
		t.Fatal(err)
	}
	s.requests()
	r, err = hasty(t, Options{}).Pull(t.Context(), mustParse(t, host+"/app"), st, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.requests(); !r.UpToDate || !slices.Equal(got, []string{"HEAD manifests/latest"}) {
		t.Fatalf("up to date %v after %q", r.UpToDate, got)
	}
}

func TestPullEndsWhenTheConfigIsRefused(t *testing.T) {
	s, d := oneLayer(5000)
	for id, b := range s.blobs {
		if b[0] == '{' {
			s.blobs[id] = bytes.Replace(b, []byte("amd64"), []byte("arm64"), 1)
		}
	}
	s.onBlob(d, func(n int, w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Length", "5000")
		w.(http.Flusher).Flush()
		<-r.Context().Done() // the layer alone would never end
		return true
	})
	_, err := hasty(t, Options{}).Pull(t.Context(), mustParse(t, serve(t, s)+"/app"), openStore(t, t.TempDir()), func(*Remote) { t.Error("called") })
	var bad *store.VerifyError
	if !errors.As(err, &bad) {
		t.Fatalf("error is %v, want the config's VerifyError", err)
	}
}

func TestPullGoesOnAfterAnotherProcess(t *testing.T) {
	s, d := oneLayer(300_000)
	b := s.blobs[d.Digest.String()]
	host, root := serve(t, s), t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	s.onBlob(d, func(n int, w http.ResponseWriter, r *http.Request) bool {
		if n > 1 {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(b)))
		w.Write(b[:100_000])
		w.(http.Flusher).Flush()
		<-r.Context().Done() // until the client has gone
		return true
	})
	p := hasty(t, Options{Progress: func(e progress.Event) {
		if e.Kind == progress.Downloading {
			cancel() // as Ctrl-C does
		}
	}})
	st := openStore(t, root)
	r, err := p.Resolve(ctx, mustParse(t, host+"/app"), st)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Fetch(ctx, r, st); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled Fetch returns %v", err)
	}
	s.requests()

	st = openStore(t, root)
	if _, err := pull(t, hasty(t, Options{}), host+"/app", st); err != nil {
		t.Fatal(err)
	}
	mustHold(t, st, d, b)
	got := s.requests()
	if len(got) != 2 || got[0] != "HEAD manifests/latest" || !strings.HasPrefix(got[1], "GET blobs/"+d.Digest.String()+" bytes=") {
		t.Fatalf("asked for %q, want the rest of the layer and nothing else", got)
	}
}

func TestTwoPullsAtOnceFetchEachBlobOnce(t *testing.T) {
	for name, stores := range map[string]int{"of one process": 1, "of two processes": 2} {
		t.Run(name, func(t *testing.T) {
			s := newShelf()
			var layers [][]byte
			for i := range 6 {
				layers = append(layers, noise(uint64(i+1), 200_000*(i+1)))
			}
			s.addImage("linux/amd64", layers, "latest")
			host, root := serve(t, s), t.TempDir()
			sts := []*store.Store{openStore(t, root), openStore(t, root)}
			var wg sync.WaitGroup
			for i := range 2 {
				p := hasty(t, Options{})
				wg.Go(func() {
					if _, err := pull(t, p, host+"/app", sts[i%stores]); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			for _, l := range layers {
				d := describe("", l)
				mustHold(t, sts[0], d, l)
				if n := s.count("GET blobs/" + d.Digest.String()); n != 1 {
					t.Errorf("layer of %d bytes was fetched %d times", len(l), n)
				}
			}
		})
	}
}

func TestFetchLeavesNoGoroutine(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	s, d := oneLayer(300_000)
	s.onBlob(d, func(n int, w http.ResponseWriter, r *http.Request) bool { return cut(w, noise(1, 300_000), 1000) })
	srv := httptest.NewServer(s)
	p := New(Options{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}})
	p.wait.backoff = time.Microsecond
	if _, err := pull(t, p, strings.TrimPrefix(srv.URL, "http://")+"/app", openStore(t, t.TempDir())); err == nil {
		t.Fatal("no error")
	}
	p.Close()
	srv.Close()
	goleak.VerifyNone(t, ignore)
}
