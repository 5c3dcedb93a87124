package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// fakeRegistry serves images made by hand, good and bad, by the read half of the
// distribution specification, and logs what it is asked for.
type fakeRegistry struct {
	*httptest.Server

	mu        sync.Mutex
	log       []string                   // guarded by mu: "GET blob DIGEST", ...
	manifests map[string]typed           // "NAME:TAG" or "NAME@DIGEST"
	blobs     map[digest.Digest][]byte   // what is sent for the digest
	withheld  map[digest.Digest]struct{} // blobs that are announced in full and sent by half
}

type typed struct {
	mediaType string
	body      []byte
}

func newFakeRegistry(t testing.TB) *fakeRegistry {
	r := &fakeRegistry{manifests: map[string]typed{}, blobs: map[digest.Digest][]byte{}, withheld: map[digest.Digest]struct{}{}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *fakeRegistry) host() string { return strings.TrimPrefix(r.URL, "http://") }

func (r *fakeRegistry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	path := strings.TrimPrefix(req.URL.Path, "/v2/")
	fail := func(status int, code string) {
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"as the script asks"}]}`, code)
	}
	if strings.HasPrefix(path, "private/") {
		w.Header().Set("WWW-Authenticate", `Basic realm="fake"`)
		fail(http.StatusUnauthorized, "UNAUTHORIZED")
		return
	}
	if name, ref, ok := strings.Cut(path, "/manifests/"); ok {
		r.log = append(r.log, req.Method+" manifest "+name+" "+ref)
		sep := ":"
		if strings.Contains(ref, ":") {
			sep = "@"
		}
		m, found := r.manifests[name+sep+ref]
		if !found {
			fail(http.StatusNotFound, "MANIFEST_UNKNOWN")
			return
		}
		w.Header().Set("Content-Type", m.mediaType)
		w.Header().Set("Docker-Content-Digest", digest.FromBytes(m.body).String())
		w.Header().Set("Content-Length", fmt.Sprint(len(m.body)))
		if req.Method == http.MethodGet {
			w.Write(m.body)
		}
		return
	}
	if _, ref, ok := strings.Cut(path, "/blobs/"); ok {
		r.log = append(r.log, req.Method+" blob "+ref)
		b, found := r.blobs[digest.Digest(ref)]
		if !found {
			fail(http.StatusNotFound, "BLOB_UNKNOWN")
			return
		}
		if _, half := r.withheld[digest.Digest(ref)]; half {
			w.Header().Set("Content-Length", fmt.Sprint(len(b)))
			w.Write(b[:len(b)/2]) // the server closes the connection for us
			return
		}
		http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(b)) // knows ranges
		return
	}
	w.WriteHeader(http.StatusOK) // GET /v2/
}

// requests returns what was asked since the last call, one a line.
func (r *fakeRegistry) requests() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := strings.Join(r.log, "\n")
	r.log = nil
	return out
}

func (r *fakeRegistry) blob(mediaType string, b []byte) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blobs[d.Digest] = b
	return d
}

// image publishes an image of the given tars, packed as their media types say,
// and returns its descriptor. edit may spoil manifest and config before that.
func (r *fakeRegistry) image(name string, layers []typed, edit func(*ocispec.Manifest, *ocispec.Image)) ocispec.Descriptor {
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{}}
	c := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}}
	c.Config.Cmd = []string{"/bin/hello"}
	c.RootFS.Type = "layers"
	for _, l := range layers {
		m.Layers = append(m.Layers, r.blob(l.mediaType, compress(l)))
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, digest.FromBytes(l.body))
	}
	if edit != nil {
		edit(&m, &c)
	}
	config, _ := json.Marshal(c)
	if m.Config.Digest == "" {
		m.Config = r.blob(ocispec.MediaTypeImageConfig, config)
	}
	body, _ := json.Marshal(m)
	return r.manifest(name, ocispec.MediaTypeImageManifest, body)
}

func (r *fakeRegistry) manifest(name, mediaType string, body []byte) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(body), Size: int64(len(body))}
	repository, _, _ := strings.Cut(name, ":")
	r.mu.Lock()
	defer r.mu.Unlock()
	r.manifests[name] = typed{mediaType, body}
	r.manifests[repository+"@"+d.Digest.String()] = typed{mediaType, body}
	return d
}

func compress(l typed) []byte {
	var b bytes.Buffer
	switch {
	case strings.HasSuffix(l.mediaType, "+gzip"):
		w := gzip.NewWriter(&b)
		w.Write(l.body)
		w.Close()
	case strings.HasSuffix(l.mediaType, "+zstd"):
		w, _ := zstd.NewWriter(&b)
		w.Write(l.body)
		w.Close()
	default:
		return l.body
	}
	return b.Bytes()
}

// layer makes a tar of "name=content" files; "name/" is a directory.
func layer(mediaType string, entries ...string) typed {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		name, content, _ := strings.Cut(e, "=")
		h := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}
		if strings.HasSuffix(name, "/") {
			h.Mode, h.Typeflag = 0o755, tar.TypeDir
		}
		w.WriteHeader(h)
		w.Write([]byte(content))
	}
	w.Close()
	return typed{mediaType, b.Bytes()}
}

// tarOf makes a tar of empty entries, files unless they say otherwise.
func tarOf(headers ...*tar.Header) typed {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		h.ModTime = time.Unix(1_000_000_000, 5)
		h.Format = tar.FormatPAX
		w.WriteHeader(h)
	}
	w.Close()
	return typed{tarLayer, b.Bytes()}
}

// ownedLayers have all that a user cannot have himself, other than the owner of a
// link.
func ownedLayers() []typed {
	return []typed{
		tarOf(
			&tar.Header{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o755},
			&tar.Header{Name: "etc/shadow", Mode: 0o640, Gid: 42},
			&tar.Header{Name: "etc/secret", Mode: 0o400, Uid: 7, Gid: 8},
			&tar.Header{Name: "bin/su", Mode: 0o4755},
			&tar.Header{Name: "bin/sudo", Typeflag: tar.TypeLink, Linkname: "bin/su"},
			&tar.Header{Name: "bin/sh", Typeflag: tar.TypeSymlink, Linkname: "dash", Mode: 0o777},
			&tar.Header{Name: "dev/null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3, Mode: 0o666},
			&tar.Header{Name: "dev/sda", Typeflag: tar.TypeBlock, Devmajor: 8, Devminor: 300, Mode: 0o660, Gid: 6},
			&tar.Header{Name: "run/fifo", Typeflag: tar.TypeFifo, Mode: 0o600, Uid: 3},
			&tar.Header{Name: "var/mail/", Typeflag: tar.TypeDir, Mode: 0o2775, Gid: 8},
			&tar.Header{Name: "closed/", Typeflag: tar.TypeDir, Mode: 0o500, Uid: 9},
			&tar.Header{Name: "closed/in", Mode: 0o200, Uid: 9, PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b"}}),
		tarOf(
			&tar.Header{Name: "closed/far", Uid: 2_000_000, Gid: 5, Mode: 0o600},
			&tar.Header{Name: "shadow", Typeflag: tar.TypeLink, Linkname: "etc/shadow"}),
	}
}

const (
	gzipLayer = ocispec.MediaTypeImageLayerGzip
	zstdLayer = ocispec.MediaTypeImageLayerZstd
	tarLayer  = ocispec.MediaTypeImageLayer
)

// publish fills the registry with the images that the scripts speak of.
func (r *fakeRegistry) publish() {
	base := layer(gzipLayer, "etc/", "etc/motd=old\n", "etc/issue=one\n")
	top := layer(zstdLayer, "etc/.wh.issue=", "etc/motd=new\n", "bin/", "bin/hello=hi\n")
	r.image("web:latest", []typed{base, top}, nil)
	r.image("web:2", []typed{base, layer(tarLayer, "etc/motd=newest\n")}, nil)
	r.image("empty:latest", nil, nil)
	r.image("deep:latest", []typed{layer(tarLayer, "a/b/c/d=1\n")}, nil)
	r.image("attributes:latest", []typed{tarOf(
		&tar.Header{Name: "f", PAXRecords: map[string]string{"SCHILY.xattr.user.a": strings.Repeat("a", 200), "SCHILY.xattr.user.b": "b"}})}, nil)
	r.image("owned:latest", ownedLayers(), nil)

	r.image("lying:latest", []typed{base}, func(m *ocispec.Manifest, _ *ocispec.Image) { m.Layers[0].MediaType = tarLayer })
	r.image("wrongdiffid:latest", []typed{layer(gzipLayer, "a=1\n")}, func(_ *ocispec.Manifest, c *ocispec.Image) {
		c.RootFS.DiffIDs[0] = digest.FromString("another tar")
	})
	r.image("fewdiffids:latest", []typed{base}, func(_ *ocispec.Manifest, c *ocispec.Image) { c.RootFS.DiffIDs = nil })
	r.image("notalayer:latest", []typed{base}, func(m *ocispec.Manifest, _ *ocispec.Image) { m.Layers[0].MediaType = "application/vnd.in-toto+json" })
	r.image("noblob:latest", []typed{layer(gzipLayer, "gone=1\n")}, func(m *ocispec.Manifest, _ *ocispec.Image) { delete(r.blobs, m.Layers[0].Digest) })
	r.image("corrupt:latest", []typed{layer(gzipLayer, "corrupt=1\n")}, func(m *ocispec.Manifest, _ *ocispec.Image) {
		b := bytes.Clone(r.blobs[m.Layers[0].Digest])
		b[len(b)/2] ^= 1
		r.blobs[m.Layers[0].Digest] = b
	})
	r.image("truncated:latest", []typed{layer(gzipLayer, "truncated=1\n")}, func(m *ocispec.Manifest, _ *ocispec.Image) {
		r.withheld[m.Layers[0].Digest] = struct{}{}
	})
	r.image("oversized:latest", []typed{layer(gzipLayer, "oversized=1\n")}, func(m *ocispec.Manifest, _ *ocispec.Image) {
		r.blobs[m.Layers[0].Digest] = append(r.blobs[m.Layers[0].Digest], "and more"...)
	})
	// a gzip stream cut off, under a digest that is right
	cut := layer(gzipLayer, "cut=1\n")
	r.image("cutgzip:latest", []typed{cut}, func(m *ocispec.Manifest, _ *ocispec.Image) {
		b := compress(cut)
		m.Layers[0] = r.blob(gzipLayer, b[:len(b)-12])
	})
	r.image("twosizes:latest", []typed{base, base}, func(m *ocispec.Manifest, _ *ocispec.Image) { m.Layers[1].Size++ })
	r.image("nouser:latest", []typed{base}, func(_ *ocispec.Manifest, c *ocispec.Image) { c.Config.User = "no\x1bbody" })
	none, _ := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}})
	r.manifest("noimages:latest", ocispec.MediaTypeImageIndex, none)
	r.image("escape:latest", []typed{layer(gzipLayer, "../../escaped=1\n")}, nil)
	r.manifest("html:latest", "text/html", []byte("<html>hello</html>"))
	r.manifest("schema1:latest", "application/vnd.docker.distribution.manifest.v1+prettyjws", []byte(`{"schemaVersion":1,"fsLayers":[]}`))

	amd := r.image("multi:amd64", []typed{base}, nil)
	amd.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	arm := r.image("multi:arm64", []typed{layer(gzipLayer, "arm=1\n")}, func(_ *ocispec.Manifest, c *ocispec.Image) { c.Architecture, c.Variant = "arm64", "v8" })
	arm.Platform = &ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
	attestation := r.image("multi:attestation", []typed{layer(tarLayer)}, nil)
	attestation.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	attestation.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	index, _ := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{attestation, amd, arm},
	})
	r.manifest("multi:latest", ocispec.MediaTypeImageIndex, index)
	r.requests()
}
