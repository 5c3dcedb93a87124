// Package layout writes and reads OCI image layouts (image-spec
// image-layout.md): a directory of blobs named by digest and an index.json that
// names the image. It is what the recipes of package images end in, what
// package registry pushes, and it shares no code with peel's own store.
package layout

import (
	"crypto/sha256"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Sources is this package, for those who keep what it made.
//
//go:embed *.go
var Sources embed.FS

// Docker's own media types (distribution's schema 2), which most of the images
// on public hubs carried for years.
const (
	DockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	DockerConfig   = "application/vnd.docker.container.image.v1+json"
	DockerLayer    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	DockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// Dir is one image layout.
type Dir struct{ Path string }

// Create makes an empty layout at path, which must not exist.
func Create(path string) (*Dir, error) {
	if err := os.Mkdir(path, 0o755); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(path, "blobs", "sha256"), 0o755); err != nil {
		return nil, err
	}
	version, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return nil, err
	}
	return &Dir{path}, os.WriteFile(filepath.Join(path, ocispec.ImageLayoutFile), version, 0o644)
}

// Open names a layout that exists.
func Open(path string) (*Dir, error) {
	_, err := os.Stat(filepath.Join(path, ocispec.ImageLayoutFile))
	return &Dir{path}, err
}

// Add stores what write produces as one blob and describes it.
func (d *Dir) Add(mediaType string, write func(io.Writer) error) (ocispec.Descriptor, error) {
	f, err := os.CreateTemp(d.Path, ".blob-")
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer os.Remove(f.Name()) // fails once the blob has its own name
	defer f.Close()
	h := sha256.New()
	w := &counter{w: io.MultiWriter(f, h)}
	if err := write(w); err != nil {
		return ocispec.Descriptor{}, err
	}
	if err := f.Close(); err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.NewDigest(digest.SHA256, h), Size: w.n}
	if err := os.Chmod(f.Name(), 0o644); err != nil {
		return desc, err
	}
	return desc, os.Rename(f.Name(), d.BlobPath(desc.Digest))
}

// AddBytes stores b as one blob.
func (d *Dir) AddBytes(mediaType string, b []byte) (ocispec.Descriptor, error) {
	return d.Add(mediaType, func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
}

// AddJSON stores v as one JSON blob.
func (d *Dir) AddJSON(mediaType string, v any) (ocispec.Descriptor, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return d.AddBytes(mediaType, b)
}

// AddImage stores config and the manifest that joins it with layers, as OCI
// documents.
func (d *Dir) AddImage(config ocispec.Image, layers []ocispec.Descriptor) (ocispec.Descriptor, error) {
	c, err := d.AddJSON(ocispec.MediaTypeImageConfig, config)
	if err != nil {
		return c, err
	}
	return d.AddManifest(ocispec.MediaTypeImageManifest, c, layers)
}

// AddManifest stores a manifest of the given media type.
func (d *Dir) AddManifest(mediaType string, config ocispec.Descriptor, layers []ocispec.Descriptor) (ocispec.Descriptor, error) {
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: mediaType, Config: config, Layers: layers}
	return d.AddJSON(mediaType, m)
}

// BlobPath is where the blob lies, or would lie.
func (d *Dir) BlobPath(dgst digest.Digest) string {
	return filepath.Join(d.Path, "blobs", "sha256", dgst.Encoded())
}

// SetRoot makes desc the layout's image, tagged latest.
func (d *Dir) SetRoot(desc ocispec.Descriptor) error {
	desc.Annotations = map[string]string{ocispec.AnnotationRefName: "latest"}
	b, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{desc},
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(d.Path, ocispec.ImageIndexFile), b, 0o644)
}

// Root describes the layout's image: a manifest or an index.
func (d *Dir) Root() (ocispec.Descriptor, error) {
	var idx ocispec.Index
	b, err := os.ReadFile(filepath.Join(d.Path, ocispec.ImageIndexFile))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if err := json.Unmarshal(b, &idx); err != nil {
		return ocispec.Descriptor{}, err
	}
	if len(idx.Manifests) != 1 {
		return ocispec.Descriptor{}, fmt.Errorf("%s holds %d images, not one", d.Path, len(idx.Manifests))
	}
	desc := idx.Manifests[0]
	desc.Annotations = nil
	return desc, nil
}

// ReadJSON reads a JSON blob into v.
func (d *Dir) ReadJSON(desc ocispec.Descriptor, v any) error {
	b, err := os.ReadFile(d.BlobPath(desc.Digest))
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// Manifest reads the layout's image where it is a single manifest.
func (d *Dir) Manifest() (m ocispec.Manifest, err error) {
	root, err := d.Root()
	if err != nil {
		return m, err
	}
	return m, d.ReadJSON(root, &m)
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
