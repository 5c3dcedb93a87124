package registry

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Whatever a registry sends as index, manifest and config, what Resolve accepts
// can be relied on: the digests are digests, the sizes sizes, there is one DiffID
// a layer, and the platform is the one asked for.
func FuzzResolve(f *testing.F) {
	s, amd64, _ := multi()
	var config []byte
	for _, b := range s.blobs {
		if json.Valid(b) && bytes.Contains(b, []byte(`"amd64"`)) {
			config = b
		}
	}
	f.Add(s.manifests["latest"].body, s.manifests[amd64.Digest.String()].body, config)
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{}],"layers":[]}`), []byte(`{"schemaVersion":2}`), []byte(`{}`))
	st := openStore(f, f.TempDir())
	pick := newChooser(ocispec.Platform{OS: "linux", Architecture: "amd64"})
	f.Fuzz(func(t *testing.T, index, manifest, config []byte) {
		if d, err := chooseFrom(pick, index); err == nil && d.Platform != nil {
			if !pick.fits(*d.Platform) || !isImage(d) {
				t.Fatalf("%+v is chosen", d)
			}
		}
		// The index names the manifest that comes, and the manifest the config, so
		// that the fuzzer need not find digests.
		s := newShelf()
		var m ocispec.Manifest
		if json.Unmarshal(manifest, &m) == nil {
			m.Config.Digest, m.Config.Size = digest.FromBytes(config), int64(len(config))
			s.blobs[m.Config.Digest.String()] = config
			manifest = mustJSON(m)
		}
		s.addManifest(ocispec.MediaTypeImageManifest, manifest, "latest")
		p := hasty(t, Options{Platform: pick.want})
		ref := Reference{domain: "localhost:1", path: "app", tag: "latest"}
		r, err := p.repository(ref)
		if err != nil {
			t.Fatal(err)
		}
		r.choose("http")
		r.via = direct{s}
		remote, err := p.Resolve(t.Context(), ref, st)
		if err != nil {
			return
		}
		img := remote.Image
		if len(img.Manifest.Layers) != len(img.Config.RootFS.DiffIDs) {
			t.Fatal("layers and diff_ids differ in number")
		}
		for _, d := range slices.Concat(img.Manifest.Layers, []ocispec.Descriptor{img.Descriptor, img.Manifest.Config}) {
			if d.Digest.Validate() != nil || d.Size < 0 {
				t.Fatalf("descriptor %+v is accepted", d)
			}
		}
	})
}

func chooseFrom(pick chooser, index []byte) (ocispec.Descriptor, error) {
	idx, err := parseIndex(document{desc: describe(ocispec.MediaTypeImageIndex, index), bytes: index})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return pick.choose("app", idx)
}

// direct is a transport that has the server in the same process.
type direct struct{ h http.Handler }

func (d direct) RoundTrip(req *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	d.h.ServeHTTP(w, req)
	resp := w.Result()
	resp.Request = req
	return resp, nil
}
