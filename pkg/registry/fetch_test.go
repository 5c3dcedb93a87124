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
	"sync/atomic"
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

// onBlob makes the shelf answer the n-th request (from 1) for blob d by f, if f
// says so.
func (s *shelf) onBlob(d ocispec.Descriptor, f func(n int, w http.ResponseWriter, r *http.Request) bool) {
	var n atomic.Int32
	s.before = func(w http.ResponseWriter, r *http.Request) bool {
		return strings.HasSuffix(r.URL.Path, "/blobs/"+d.Digest.String()) && f(int(n.Add(1)), w, r)
	}
}

// ranges returns what was asked of blob d: "" for the whole, else the Range.
func (s *shelf) ranges(d ocispec.Descriptor) (rs []string) {
	for _, line := range s.requests() {
		if rest, ok := strings.CutPrefix(line, "GET blobs/"+d.Digest.String()); ok {
			rs = append(rs, strings.TrimSpace(rest))
		}
	}
	return rs
}

// cut sends the first n bytes of b as if all of it came, and breaks off.
func cut(w http.ResponseWriter, b []byte, n int) bool {
	w.Header().Set("Content-Length", fmt.Sprint(len(b)))
	w.Write(b[:n])
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
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

func TestTransferGoesOnWhereItBrokeOff(t *testing.T) {
	s, d := oneLayer(300_000)
	b := s.blobs[d.Digest.String()]
	s.onBlob(d, func(n int, w http.ResponseWriter, r *http.Request) bool {
		return n == 1 && cut(w, b, 100_000)
	})
	var events recorder
	st := openStore(t, t.TempDir())
	if _, err := pull(t, hasty(t, Options{Progress: events.add}), serve(t, s)+"/app", st); err != nil {
		t.Fatal(err)
	}
	mustHold(t, st, d, b)
	if got, want := s.ranges(d), []string{"", "bytes=100000-"}; !slices.Equal(got, want) {
		t.Fatalf("asked for %q, want %q", got, want)
	}
	if es := events.all(progress.Retrying); len(es) != 1 || es[0].Current != 100_000 || es[0].Message == "" {
		t.Fatalf("events %+v", es)
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

func TestAnswersToARange(t *testing.T) {
	const have = 1000
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter, b []byte) // to the first request, which has a Range
		asked  []string
	}{
		"200 starts over": {func(w http.ResponseWriter, b []byte) { w.Write(b) }, []string{"bytes=1000-"}},
		"another start is not believed": {func(w http.ResponseWriter, b []byte) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 500-%d/%d", len(b)-1, len(b)))
			w.WriteHeader(206)
			w.Write(b[500:])
		}, []string{"bytes=1000-", ""}},
		"no Content-Range is not believed": {func(w http.ResponseWriter, b []byte) { w.WriteHeader(206); w.Write(b[have:]) }, []string{"bytes=1000-", ""}},
		"a range past the end is not believed": {func(w http.ResponseWriter, b []byte) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 1000-%d/*", len(b)))
			w.WriteHeader(206)
			w.Write(append(b[have:], 0))
		}, []string{"bytes=1000-", ""}},
		"a shorter part is taken": {func(w http.ResponseWriter, b []byte) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 1000-1999/%d", len(b)))
			w.WriteHeader(206)
			w.Write(b[have:2000])
		}, []string{"bytes=1000-", "bytes=2000-"}},
		"416 starts over": {func(w http.ResponseWriter, b []byte) { w.WriteHeader(416) }, []string{"bytes=1000-", ""}},
		"wrong bytes of an earlier attempt are fetched anew": {func(w http.ResponseWriter, b []byte) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 1000-%d/%d", len(b)-1, len(b)))
			w.WriteHeader(206)
			w.Write(b[:len(b)-have])
		}, []string{"bytes=1000-", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			s, d := oneLayer(5000)
			b := s.blobs[d.Digest.String()]
			st := openStore(t, t.TempDir())
			leave(t, st, d, b[:have])
			s.onBlob(d, func(n int, w http.ResponseWriter, r *http.Request) bool {
				if n == 1 {
					c.answer(w, slices.Clone(b))
				}
				return n == 1
			})
			if _, err := pull(t, hasty(t, Options{}), serve(t, s)+"/app", st); err != nil {
				t.Fatal(err)
			}
			mustHold(t, st, d, b)
			if got := s.ranges(d); !slices.Equal(got, c.asked) {
				t.Fatalf("asked for %q, want %q", got, c.asked)
			}
		})
	}
}

// leave puts the beginning of a blob where a broken pull leaves it.
func leave(t *testing.T, st *store.Store, d ocispec.Descriptor, b []byte) {
	t.Helper()
	in, err := st.Ingest(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestWrongBlobsAreRefused(t *testing.T) {
	for name, answer := range map[string]func(w http.ResponseWriter, b []byte){
		"one byte differs":       func(w http.ResponseWriter, b []byte) { b[2500] ^= 1; w.Write(b) },
		"shorter, and says so":   func(w http.ResponseWriter, b []byte) { w.Header().Set("Content-Length", "4000"); w.Write(b[:4000]) },
		"longer, and says so":    func(w http.ResponseWriter, b []byte) { w.Header().Set("Content-Length", "5001"); w.Write(append(b, 0)) },
		"longer, in chunks":      func(w http.ResponseWriter, b []byte) { w.(http.Flusher).Flush(); w.Write(append(b, 0)) },
		"other bytes, all along": func(w http.ResponseWriter, b []byte) { w.Write(noise(9, len(b))) },
		"endless": func(w http.ResponseWriter, b []byte) {
			for w.(http.Flusher).Flush(); ; {
				if _, err := w.Write(b); err != nil {
					return // the client has seen enough
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, d := oneLayer(5000)
			b := s.blobs[d.Digest.String()]
			asked := 0
			s.onBlob(d, func(n int, w http.ResponseWriter, r *http.Request) bool {
				asked = n
				answer(w, slices.Clone(b))
				return true
			})
			st := openStore(t, t.TempDir())
			_, err := pull(t, hasty(t, Options{}), serve(t, s)+"/app", st)
			var bad *store.VerifyError
			if !errors.As(err, &bad) || bad.Want.Digest != d.Digest {
				t.Fatalf("error is %v, want a VerifyError", err)
			}
			if st.Has(d) || asked != 1 {
				t.Fatalf("in the store: %v, asked %d times", st.Has(d), asked)
			}
			if fi, err := os.Stat(filepath.Join(st.Layout(), "ingest", d.Digest.Encoded())); err == nil && fi.Size() > 0 {
				t.Fatalf("%d wrong bytes are kept", fi.Size())
			}
		})
	}
}

func TestTruncationIsTriedAgainAndThenGivenUp(t *testing.T) {
	s, d := oneLayer(5000)
	b := s.blobs[d.Digest.String()]
	var asked atomic.Int32
	s.onBlob(d, func(n int, w http.ResponseWriter, r *http.Request) bool {
		asked.Store(int32(n))
		return cut(w, b, 0)
	})
	p := hasty(t, Options{})
	p.wait.backoff = time.Microsecond
	_, err := pull(t, p, serve(t, s)+"/app", openStore(t, t.TempDir()))
	if err == nil || !strings.Contains(err.Error(), d.Digest.String()) || asked.Load() != triesToFetch {
		t.Fatalf("after %d tries: %v", asked.Load(), err)
	}
}

func TestStalledTransferIsTakenUpAgain(t *testing.T) {
	s, d := oneLayer(300_000)
	b := s.blobs[d.Digest.String()]
	s.onBlob(d, func(n int, w http.ResponseWriter, r *http.Request) bool {
		if n == 1 {
			w.Header().Set("Content-Length", fmt.Sprint(len(b)))
			w.Write(b[:100_000])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
		return n == 1
	})
	p := hasty(t, Options{})
	p.wait.stall = 200 * time.Millisecond
	st := openStore(t, t.TempDir())
	if _, err := pull(t, p, serve(t, s)+"/app", st); err != nil {
		t.Fatal(err)
	}
	mustHold(t, st, d, b)
}

// A registry that keeps its blobs elsewhere, under URLs that expire.
func TestExpiredURLIsReplacedByAFreshOne(t *testing.T) {
	s, d := oneLayer(5000)
	b := s.blobs[d.Digest.String()]
	storage := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("Authorization arrives at the storage host")
		}
		if r.URL.Query().Get("signature") == "1" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
	}))
	s.onBlob(d, func(n int, w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, fmt.Sprintf("http://%s/x?signature=%d", storage, n), http.StatusTemporaryRedirect)
		return true
	})
	st := openStore(t, t.TempDir())
	leave(t, st, d, b[:1000])
	if _, err := pull(t, hasty(t, Options{}), serve(t, s)+"/app", st); err != nil {
		t.Fatal(err)
	}
	mustHold(t, st, d, b)
	if got := s.ranges(d); len(got) != 2 {
		t.Fatalf("asked for %q", got)
	}
}

func TestForeignURLsAreNotUsed(t *testing.T) {
	s := newShelf()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %s is asked for", r.Method, r.URL)
	}))
	defer elsewhere.Close()
	s.addImage("linux/amd64", [][]byte{[]byte("x")}, "latest")
	layer := describe("", []byte("x")).Digest.String()
	m := s.manifests["latest"].body
	m = bytes.Replace(m, []byte(`"digest":"`+layer+`"`), []byte(`"urls":["`+elsewhere.URL+`"],"digest":"`+layer+`"`), 1)
	s.addManifest(ocispec.MediaTypeImageManifest, m, "latest")
	delete(s.blobs, layer)
	_, err := pull(t, hasty(t, Options{}), serve(t, s)+"/app", openStore(t, t.TempDir()))
	var missing *NotFoundError
	if !errors.As(err, &missing) || missing.Code != "BLOB_UNKNOWN" {
		t.Fatalf("error is %v, want a NotFoundError", err)
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

func TestContentRange(t *testing.T) {
	for s, want := range map[string]string{
		"bytes 5-9/10":                   "5 9 10",
		"bytes 0-0/*":                    "0 0 -1",
		"bytes 5-4/10":                   "",
		"bytes -5-9/10":                  "",
		"bytes */10":                     "",
		"bytes 5-9":                      "",
		"bytes 5-9/":                     "",
		"5-9/10":                         "",
		"bytes 99999999999999999999-1/2": "",
		"":                               "",
	} {
		start, end, total, ok := contentRange(s)
		got := ""
		if ok {
			got = fmt.Sprint(start, end, total)
		}
		if got != want {
			t.Errorf("%q is %q, want %q", s, got, want)
		}
	}
}
