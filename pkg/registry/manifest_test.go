package registry

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/pkg/store"
)

// answer makes the shelf send this body for every manifest, whatever its digest.
func answer(s *shelf, mediaType, body string, header ...string) {
	s.before = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/v2/app/manifests/") {
			return false
		}
		if r.Method == http.MethodHead {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return true
		}
		w.Header().Set("Content-Type", mediaType)
		if len(header) == 2 {
			w.Header().Set(header[0], header[1])
		}
		fmt.Fprint(w, body)
		return true
	}
}

func TestDocumentsThatAreRefused(t *testing.T) {
	d := `{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:` + hex64 + `","size":2,"platform":{"os":"linux","architecture":"amd64"}}`
	manifest := `{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:` + hex64 + `","size":2},"layers":[]}`
	index := `{"schemaVersion":2,"manifests":[` + d + `]}`
	const m, i = ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex
	edit := func(doc, from, to string) string { return strings.Replace(doc, from, to, 1) }
	for name, c := range map[string]struct{ mediaType, body, want string }{
		"an index that is a manifest too":         {i, edit(index, `{`, `{"layers":[],`), "both an index and a manifest"},
		"an index with a config":                  {i, edit(index, `{`, `{"config":{},`), "both an index and a manifest"},
		"the same in other capitals":              {i, edit(index, `{`, `{"Layers":[],`), "both an index and a manifest"},
		"a manifest that is an index too":         {m, edit(manifest, `{`, `{"manifests":[],`), "both an index and a manifest"},
		"an index sent as a manifest":             {m, index, "both an index and a manifest"},
		"a manifest sent as an index":             {i, manifest, "both an index and a manifest"},
		"an index that calls itself a manifest":   {i, edit(index, `{`, `{"mediaType":"`+m+`",`), "calls itself"},
		"a manifest that calls itself docker's":   {m, edit(manifest, `{`, `{"mediaType":"`+dockerManifest+`",`), "calls itself"},
		"another Content-Type":                    {"text/html", manifest, "no manifest"},
		"a Content-Type that moves the cursor":    {"text/\u202e", manifest, "no manifest"},
		"signed schema 1":                         {schema1Signed, `{"schemaVersion":1}`, "schema 1"},
		"schema 1":                                {schema1, `{"schemaVersion":1}`, "schema 1"},
		"schema 1 under another name":             {m, `{"schemaVersion":1,"fsLayers":[]}`, "schema 1"},
		"an index of schemaVersion 3":             {i, edit(index, "2", "3"), "schemaVersion 3"},
		"not JSON":                                {m, `<html>`, "invalid character"},
		"an index that is not JSON":               {i, `[`, "unexpected end"},
		"an index with a path for a digest":       {i, edit(index, hex64, "../../../etc/passwd"), "invalid checksum"},
		"an index with a digest in capitals":      {i, edit(index, hex64, strings.ToUpper(hex64)), "invalid checksum"},
		"an index with a negative size":           {i, edit(index, `"size":2`, `"size":-2`), "size -2"},
		"an index with a huge manifest":           {i, edit(index, `"size":2`, `"size":4194305`), "more than the 4194304 bytes"},
		"an index with nothing in it":             {i, `{"schemaVersion":2}`, "has no image in it"},
		"a huge manifest":                         {m, strings.Repeat(" ", maxManifest) + manifest, "more than the 4194304 bytes"},
		"a huge config":                           {m, edit(manifest, `"size":2`, `"size":8388609`), "more than the 8388608 bytes"},
		"a config of another kind":                {m, edit(manifest, "application/vnd.oci.image.config.v1+json", "application/vnd.cncf.helm.config.v1+json"), "artifact"},
		"a manifest with a path for a digest":     {m, edit(manifest, hex64, "../../../etc/passwd"), "invalid checksum"},
		"an index where a manifest was announced": {i, index, "is sent as"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf()
			answer(s, c.mediaType, c.body)
			st := openStore(t, t.TempDir())
			_, err := hasty(t, Options{}).Resolve(t.Context(), mustParse(t, serve(t, s)+"/app"), st)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error is %v, want one about %q", err, c.want)
			}
			if strings.ContainsAny(err.Error(), "\x1b\u202e") {
				t.Fatalf("the error can move the cursor: %q", err)
			}
		})
	}
}

func TestBytesAreComparedWithTheDigest(t *testing.T) {
	const manifest = `{"schemaVersion":2}`
	for name, c := range map[string]struct {
		ref    string
		header []string
	}{
		"a tag's, with what the registry says": {":latest", []string{"Docker-Content-Digest", "sha256:" + hex64}},
		"those of a digest":                    {dgst, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf()
			answer(s, ocispec.MediaTypeImageManifest, manifest, c.header...)
			_, err := hasty(t, Options{}).Resolve(t.Context(), mustParse(t, serve(t, s)+"/app"+c.ref), openStore(t, t.TempDir()))
			var bad *store.VerifyError
			if !errors.As(err, &bad) || bad.Want.Digest != "sha256:"+hex64 || bad.GotDigest != digest.FromString(manifest) {
				t.Fatalf("error is %v, want a VerifyError", err)
			}
		})
	}
}

func TestIndexesMayNestButNotForEver(t *testing.T) {
	s := newShelf()
	want := s.addImage("linux/amd64", [][]byte{[]byte("x")})
	d := want
	for depth := range maxNesting {
		d.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
		d = s.addIndex([]ocispec.Descriptor{d}, fmt.Sprint("depth-", depth+1))
	}
	host := serve(t, s)
	r, err := pull(t, hasty(t, Options{}), fmt.Sprint(host, "/app:depth-", maxNesting-1), openStore(t, t.TempDir()))
	if err != nil || r.Image.Descriptor.Digest != want.Digest {
		t.Fatalf("got %+v, %v", r, err)
	}
	_, err = pull(t, hasty(t, Options{}), fmt.Sprint(host, "/app:depth-", maxNesting), openStore(t, t.TempDir()))
	var mt *MediaTypeError
	if !errors.As(err, &mt) {
		t.Fatalf("error is %v, want a MediaTypeError", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, spoil := range map[string]func(b []byte) []byte{
		"one byte differs": func(b []byte) []byte { b = slices.Clone(b); b[5] ^= 1; return b },
		"too short":        func(b []byte) []byte { return b[:len(b)-1] },
		"too long":         func(b []byte) []byte { return append(slices.Clone(b), ' ') },
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf()
			s.addImage("linux/amd64", [][]byte{[]byte("x")}, "latest")
			st := openStore(t, t.TempDir())
			var config string
			for id, b := range s.blobs {
				if b[0] == '{' {
					config, s.blobs[id] = id, spoil(b)
				}
			}
			_, err := hasty(t, Options{}).Resolve(t.Context(), mustParse(t, serve(t, s)+"/app"), st)
			if err == nil || !strings.Contains(err.Error(), config) {
				t.Fatalf("error is %v, want one about the config", err)
			}
			if _, err := st.ReadBlob(ocispec.Descriptor{Digest: digest.Digest(config), Size: 1}); !errors.Is(err, store.ErrNotFound) {
				t.Fatalf("the config is in the store: %v", err)
			}
		})
	}
}

func TestHugeManifestIsNotWaitedFor(t *testing.T) {
	s := newShelf()
	s.before = func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
		w.Header().Set("Content-Length", fmt.Sprint(maxManifest+1))
		w.(http.Flusher).Flush()
		if r.Method == http.MethodGet {
			<-r.Context().Done()
		}
		return true
	}
	p := hasty(t, Options{})
	p.wait.stall = time.Second
	_, err := p.Resolve(t.Context(), mustParse(t, serve(t, s)+"/app"), openStore(t, t.TempDir()))
	var long *LengthError
	if !errors.As(err, &long) || long.Max != maxManifest {
		t.Fatalf("error is %v, want a LengthError", err)
	}
}
