package registry

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/pkg/progress"
	"peel/pkg/store"
)

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
		"another total is not believed": {func(w http.ResponseWriter, b []byte) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 1000-%d/%d", len(b)-1, len(b)+1))
			w.WriteHeader(206)
			w.Write(b[have:])
		}, []string{"bytes=1000-", ""}},
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

func TestStalledManifestIsGivenUp(t *testing.T) {
	s := newShelf()
	s.before = func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
		w.Header().Set("Content-Length", "100")
		w.(http.Flusher).Flush()
		if r.Method == http.MethodGet {
			<-r.Context().Done()
		}
		return true
	}
	p := hasty(t, Options{})
	p.wait.stall = 20 * time.Millisecond
	_, err := p.Resolve(t.Context(), mustParse(t, serve(t, s)+"/app"), openStore(t, t.TempDir()))
	if !errors.Is(err, errStalled) {
		t.Fatalf("error is %v", err)
	}
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

func TestWrongRangeIsNotTakenIntoTheStore(t *testing.T) {
	for name, span := range map[string]string{"another start": "500-4999/5000", "past the end": "1000-5000/*", "nothing": ""} {
		t.Run(name, func(t *testing.T) {
			s, d := oneLayer(5000)
			b := s.blobs[d.Digest.String()]
			st := openStore(t, t.TempDir())
			leave(t, st, d, b[:1000])
			s.onBlob(d, func(n int, w http.ResponseWriter, r *http.Request) bool {
				if n == 1 {
					w.Header().Set("Content-Range", "bytes "+span)
					w.WriteHeader(206)
				}
				return n == 1
			})
			var events recorder
			if _, err := pull(t, hasty(t, Options{Progress: events.add}), serve(t, s)+"/app", st); err != nil {
				t.Fatal(err)
			}
			if es := events.all(progress.Retrying); len(es) != 1 || !strings.Contains(es[0].Message, "another range") {
				t.Fatalf("events %+v", es)
			}
		})
	}
}

func TestWholeBlobOfWrongBytesIsFetchedAnew(t *testing.T) {
	s, d := oneLayer(5000)
	st := openStore(t, t.TempDir())
	leave(t, st, d, noise(9, 5000))
	if _, err := pull(t, hasty(t, Options{}), serve(t, s)+"/app", st); err != nil {
		t.Fatal(err)
	}
	mustHold(t, st, d, s.blobs[d.Digest.String()])
}

func TestBrokenLineIsBorneAsLongAsItGetsSomewhere(t *testing.T) {
	for name, c := range map[string]struct {
		size, step int
		ok         bool
	}{
		"a MiB at a time":      {12 << 20, 1 << 20, true},
		"some bytes at a time": {12 << 10, 1 << 10, false},
	} {
		t.Run(name, func(t *testing.T) {
			s, d := oneLayer(c.size)
			b := s.blobs[d.Digest.String()]
			s.onBlob(d, func(n int, w http.ResponseWriter, r *http.Request) bool {
				from := 0
				fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
				rest := b[from:]
				w.Header().Set("Content-Length", fmt.Sprint(len(rest)))
				if from > 0 {
					w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(b)-1, len(b)))
					w.WriteHeader(206)
				}
				w.Write(rest[:min(c.step, len(rest))])
				w.(http.Flusher).Flush()
				if len(rest) > c.step {
					panic(http.ErrAbortHandler)
				}
				return true
			})
			p := hasty(t, Options{})
			p.wait.backoff = time.Microsecond
			if _, err := pull(t, p, serve(t, s)+"/app", openStore(t, t.TempDir())); c.ok != (err == nil) {
				t.Fatalf("error is %v", err)
			}
		})
	}
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
