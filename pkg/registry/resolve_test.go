package registry

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// multi is a shelf with an index as buildkit makes it: two platforms, each
// followed by an attestation that calls itself a platform.
func multi() (s *shelf, amd64, arm64 ocispec.Descriptor) {
	s = newShelf()
	amd64 = s.addImage("linux/amd64", [][]byte{[]byte("base"), []byte("amd64")})
	arm64 = s.addImage("linux/arm64/v8", [][]byte{[]byte("base"), []byte("arm64")})
	attested := func(d ocispec.Descriptor) ocispec.Descriptor {
		a := s.addImage("unknown/unknown", [][]byte{[]byte("{}" + d.Digest)})
		a.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": d.Digest.String()}
		return a
	}
	s.addIndex([]ocispec.Descriptor{attested(amd64), amd64, attested(arm64), arm64}, "latest")
	return s, amd64, arm64
}

func TestIndexLeadsToThePlatformsImage(t *testing.T) {
	s, amd64, arm64 := multi()
	host := serve(t, s)
	for platform, want := range map[string]ocispec.Descriptor{"linux/amd64": amd64, "linux/arm64": arm64, "linux/arm64/v8": arm64, "linux/aarch64": arm64} {
		t.Run(platform, func(t *testing.T) {
			pl, err := ParsePlatform(platform)
			if err != nil {
				t.Fatal(err)
			}
			p := hasty(t, Options{Platform: pl})
			r, err := p.Resolve(t.Context(), mustParse(t, host+"/app"), openStore(t, t.TempDir()))
			if err != nil {
				t.Fatal(err)
			}
			if r.Image.Descriptor.Digest != want.Digest || r.Image.Config.Architecture != want.Platform.Architecture {
				t.Fatalf("got %s for %s", r.Image.Descriptor.Digest, r.Image.Config.Architecture)
			}
			if index := digest.FromBytes(s.manifests["latest"].body); r.Image.Source != index {
				t.Fatalf("source is %s, want the index's %s", r.Image.Source, index)
			}
			if want := host + "/app:latest"; r.Image.Name != want || r.UpToDate {
				t.Fatalf("name %s, up to date %v", r.Image.Name, r.UpToDate)
			}
		})
	}
}

func TestUpToDateCostsOneHead(t *testing.T) {
	s, _, _ := multi()
	host, root := serve(t, s), t.TempDir()
	if _, err := pull(t, hasty(t, Options{}), host+"/app", openStore(t, root)); err != nil {
		t.Fatal(err)
	}
	s.requests()

	r, err := pull(t, hasty(t, Options{}), host+"/app", openStore(t, root)) // as the next command does
	if err != nil {
		t.Fatal(err)
	}
	if got := s.requests(); !r.UpToDate || !slices.Equal(got, []string{"HEAD manifests/latest"}) {
		t.Fatalf("up to date %v after %q", r.UpToDate, got)
	}

	// The tag moves on: what both images have in common is not fetched again.
	d := s.addImage("linux/amd64", [][]byte{[]byte("base"), []byte("newer")}, "latest")
	r, err = pull(t, hasty(t, Options{}), host+"/app", openStore(t, root))
	if err != nil {
		t.Fatal(err)
	}
	if r.UpToDate || r.Image.Source != d.Digest || s.count("GET blobs") != 1 { // the config is the same
		t.Fatalf("up to date %v, source %s, requests %q", r.UpToDate, r.Image.Source, s.requests())
	}
}

func TestNewIndexOfTheSameImageIsNotUpToDate(t *testing.T) {
	s, amd64, _ := multi()
	host, st := serve(t, s), openStore(t, t.TempDir())
	if _, err := pull(t, hasty(t, Options{}), host+"/app", st); err != nil {
		t.Fatal(err)
	}
	s.addIndex([]ocispec.Descriptor{amd64}, "latest")
	s.requests()
	r, err := pull(t, hasty(t, Options{}), host+"/app", st)
	if err != nil || r.UpToDate {
		t.Fatalf("up to date %v, %v", r.UpToDate, err)
	}
	if got := s.requests(); len(got) != 2 { // HEAD, and GET of the index
		t.Fatalf("requests %q", got)
	}
}

func TestMissingLayerIsNotUpToDate(t *testing.T) {
	s, _, _ := multi()
	host, root := serve(t, s), t.TempDir()
	st := openStore(t, root)
	r, err := pull(t, hasty(t, Options{}), host+"/app", st)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(st.Layout(), "blobs/sha256", r.Image.Manifest.Layers[1].Digest.Encoded())); err != nil {
		t.Fatal(err)
	}
	s.requests()
	if r, err = pull(t, hasty(t, Options{}), host+"/app", st); err != nil || r.UpToDate {
		t.Fatalf("up to date %v, %v", r.UpToDate, err)
	}
	want := []string{"HEAD manifests/latest", "GET blobs/" + r.Image.Manifest.Layers[1].Digest.String()}
	if got := s.requests(); !slices.Equal(got, want) {
		t.Fatalf("requests %q, want %q", got, want)
	}
}

func TestDamagedDocumentsAreFetchedAnew(t *testing.T) {
	s, _, _ := multi()
	host, st := serve(t, s), openStore(t, t.TempDir())
	r, err := pull(t, hasty(t, Options{}), host+"/app", st)
	if err != nil {
		t.Fatal(err)
	}
	for what, id := range map[string]digest.Digest{"index": r.Image.Source, "manifest": r.Image.Descriptor.Digest, "config": r.Image.Manifest.Config.Digest} {
		t.Run(what, func(t *testing.T) {
			path := filepath.Join(st.Layout(), "blobs/sha256", id.Encoded())
			good, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, path, strings.Repeat("\x00", len(good))) // as after a power cut
			if _, err := pull(t, hasty(t, Options{}), host+"/app", st); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != string(good) {
				t.Fatalf("the store has %q, %v", got, err)
			}
		})
	}
}

func TestDigestDecidesWhatIsPulled(t *testing.T) {
	s, amd64, _ := multi()
	host := serve(t, s)
	r, err := pull(t, hasty(t, Options{}), host+"/app:other@"+amd64.Digest.String(), openStore(t, t.TempDir()))
	if err != nil || r.Image.Descriptor.Digest != amd64.Digest {
		t.Fatalf("got %+v, %v", r, err)
	}
	for _, line := range s.requests() {
		if strings.Contains(line, "other") {
			t.Fatal("the tag was asked for:", line)
		}
	}
}

func TestHeadThatTellsNothingIsFollowedByGet(t *testing.T) {
	for name, head := range map[string]func(w http.ResponseWriter, s *shelf){
		"405":              func(w http.ResponseWriter, s *shelf) { w.WriteHeader(405) },
		"404":              func(w http.ResponseWriter, s *shelf) { w.WriteHeader(404) },
		"no digest":        func(w http.ResponseWriter, s *shelf) { w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex) },
		"no content type":  func(w http.ResponseWriter, s *shelf) { w.Header()["Content-Type"] = nil },
		"no digest's form": func(w http.ResponseWriter, s *shelf) { w.Header().Set("Docker-Content-Digest", "sha256:../../x") },
	} {
		t.Run(name, func(t *testing.T) {
			s, amd64, _ := multi()
			s.before = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodHead {
					head(w, s)
				}
				return r.Method == http.MethodHead
			}
			r, err := pull(t, hasty(t, Options{}), serve(t, s)+"/app", openStore(t, t.TempDir()))
			if err != nil || r.Image.Descriptor.Digest != amd64.Digest {
				t.Fatalf("got %+v, %v", r, err)
			}
		})
	}
}
