package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/pkg/progress"
	"peel/pkg/store"
)

// shelf is a registry with one repository, "app", that does what it is told.
type shelf struct {
	manifests map[string]served // by tag and by digest
	blobs     map[string][]byte // by digest
	// before may answer a request in the shelf's place; it then returns true.
	before func(w http.ResponseWriter, r *http.Request) bool

	mu  sync.Mutex
	log []string // guarded by mu; "GET manifests/latest"
}

type served struct {
	mediaType string
	body      []byte
}

func newShelf() *shelf {
	return &shelf{manifests: map[string]served{}, blobs: map[string][]byte{}}
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	what := strings.TrimPrefix(r.URL.Path, "/v2/app/")
	s.mu.Lock()
	line := r.Method + " " + what
	if h := r.Header.Get("Range"); h != "" {
		line += " " + h
	}
	s.log = append(s.log, line)
	s.mu.Unlock()
	if s.before != nil && s.before(w, r) {
		return
	}
	kind, id, _ := strings.Cut(what, "/")
	switch kind {
	case "manifests":
		m, ok := s.manifests[id]
		if !ok {
			fail(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown")
			return
		}
		w.Header().Set("Content-Type", m.mediaType)
		w.Header().Set("Docker-Content-Digest", digest.FromBytes(m.body).String())
		w.Header().Set("Content-Length", fmt.Sprint(len(m.body)))
		if r.Method == http.MethodGet {
			w.Write(m.body)
		}
	case "blobs":
		b, ok := s.blobs[id]
		if !ok {
			fail(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown")
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
	default:
		fail(w, http.StatusNotFound, "NAME_UNKNOWN", "repository unknown")
	}
}

func fail(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"errors": []any{map[string]string{"code": code, "message": message}}})
}

// requests returns what was asked for since the last call, sorted by time.
func (s *shelf) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	log := s.log
	s.log = nil
	return log
}

func (s *shelf) count(request string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.log {
		if strings.HasPrefix(r, request) {
			n++
		}
	}
	return n
}

func describe(mediaType string, b []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// addBlob puts b on the shelf.
func (s *shelf) addBlob(mediaType string, b []byte) ocispec.Descriptor {
	d := describe(mediaType, b)
	s.blobs[d.Digest.String()] = b
	return d
}

// addManifest puts a manifest or an index on the shelf, under its digest and tags.
func (s *shelf) addManifest(mediaType string, b []byte, tags ...string) ocispec.Descriptor {
	d := describe(mediaType, b)
	for _, id := range append(tags, d.Digest.String()) {
		s.manifests[id] = served{mediaType, b}
	}
	return d
}

// addImage puts an image with these layers on the shelf. The layers need not be
// tars: nobody here looks inside.
func (s *shelf) addImage(platform string, layers [][]byte, tags ...string) ocispec.Descriptor {
	p, err := ParsePlatform(platform)
	if err != nil {
		panic(err)
	}
	config := ocispec.Image{Platform: p}
	config.RootFS.Type = "layers"
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for i, l := range layers {
		m.Layers = append(m.Layers, s.addBlob(ocispec.MediaTypeImageLayerGzip, l))
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromString(fmt.Sprint("tar ", i)))
	}
	m.Config = s.addBlob(ocispec.MediaTypeImageConfig, mustJSON(config))
	d := s.addManifest(ocispec.MediaTypeImageManifest, mustJSON(m), tags...)
	d.Platform = &p
	return d
}

// addIndex puts an index of these manifests on the shelf.
func (s *shelf) addIndex(ds []ocispec.Descriptor, tags ...string) ocispec.Descriptor {
	return s.addManifest(ocispec.MediaTypeImageIndex, mustJSON(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: ds,
	}), tags...)
}

func serve(t testing.TB, h http.Handler) (host string) {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

func mustParse(t testing.TB, s string) Reference {
	t.Helper()
	ref, err := ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func openStore(t testing.TB, root string) *store.Store {
	t.Helper()
	st, err := store.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// hasty is a Puller without patience, for linux/amd64 unless o says otherwise,
// and without the credentials of whoever runs the tests.
func hasty(t testing.TB, o Options) *Puller {
	t.Helper()
	if o.Platform.OS == "" {
		o.Platform = ocispec.Platform{OS: "linux", Architecture: "amd64"}
	}
	p := New(o)
	p.wait.backoff = time.Millisecond
	t.Cleanup(p.Close)
	return p
}

// withAuths makes config.json hold these entries of "auths", and keeps the
// user's own files out of reach.
func withAuths(t *testing.T, auths string) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("DOCKER_CONFIG", dir)
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("REGISTRY_AUTH_FILE", "")
	writeFile(t, dir+"/config.json", auths)
}

// pull is what the command does.
func pull(t testing.TB, p *Puller, ref string, st *store.Store) (*Remote, error) {
	t.Helper()
	r, err := p.Resolve(t.Context(), mustParse(t, ref), st)
	if err != nil {
		return nil, err
	}
	if err := p.Fetch(t.Context(), r, st); err != nil {
		return r, err
	}
	return r, st.Tag(t.Context(), r.Image.Name, r.Image)
}

// recorder keeps events.
type recorder struct {
	mu     sync.Mutex
	events []progress.Event
}

func (r *recorder) add(e progress.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *recorder) all(k progress.Kind) (es []progress.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.Kind == k {
			es = append(es, e)
		}
	}
	return es
}

func writeFile(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
