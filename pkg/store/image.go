package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is one image for one platform: a manifest and the config it names.
// len(Manifest.Layers) == len(Config.RootFS.DiffIDs) holds for every Image.
type Image struct {
	// Name is the reference in full, "docker.io/library/nginx:latest". Empty for
	// an image that no tag names.
	Name string
	// Source is what Name resolved to at the registry: the digest of the index,
	// or of the manifest where there was no index.
	Source digest.Digest
	// Descriptor is the manifest's, with the platform it was chosen for.
	Descriptor ocispec.Descriptor
	Manifest   ocispec.Manifest
	Config     ocispec.Image
}

// Size is the sum of the sizes of all blobs of the image, in bytes.
func (i *Image) Size() int64 {
	n := i.Descriptor.Size + i.Manifest.Config.Size
	for _, l := range i.Manifest.Layers {
		n += l.Size
	}
	return n
}

// InvalidError reports a manifest or config that is what its digest says, and
// makes no sense all the same: its publisher is to blame.
type InvalidError struct {
	Object string // "manifest" or "config"
	Digest digest.Digest
	Err    error
}

func (e *InvalidError) Error() string { return fmt.Sprintf("%s %s: %v", e.Object, e.Digest, e.Err) }
func (e *InvalidError) Unwrap() error { return e.Err }

// NewImage parses a manifest and its config, whose bytes the caller has checked
// against their descriptors. It refuses a manifest that is also an index
// (CVE-2021-41190), digests other than sha256, negative
// sizes, and a config that does not name one DiffID a layer, with *InvalidError.
func NewImage(d ocispec.Descriptor, manifest, config []byte) (*Image, error) {
	m, err := ParseManifest(d, manifest)
	if err != nil {
		return nil, err
	}
	img := &Image{Descriptor: d, Manifest: *m, Source: d.Digest}
	if err := json.Unmarshal(config, &img.Config); err != nil {
		return nil, &InvalidError{"config", m.Config.Digest, err}
	}
	diffIDs := img.Config.RootFS.DiffIDs
	if len(m.Layers) != len(diffIDs) {
		return nil, &InvalidError{"config", m.Config.Digest, fmt.Errorf("%d diff_ids for %d layers", len(diffIDs), len(m.Layers))}
	}
	for i, id := range diffIDs {
		if err := checkDigest(id); err != nil {
			return nil, &InvalidError{"config", m.Config.Digest, fmt.Errorf("diff_ids[%d]: %w", i, err)}
		}
	}
	return img, nil
}

// ParseManifest parses and checks the manifest that d describes; *InvalidError
// where it is none.
func ParseManifest(d ocispec.Descriptor, b []byte) (*ocispec.Manifest, error) {
	m, err := parseManifest(d, b)
	if err != nil {
		return nil, &InvalidError{"manifest", d.Digest, err}
	}
	return m, nil
}

func parseManifest(d ocispec.Descriptor, b []byte) (*ocispec.Manifest, error) {
	var both struct {
		ocispec.Manifest
		Manifests json.RawMessage `json:"manifests"`
		FSLayers  json.RawMessage `json:"fsLayers"`
	}
	if err := json.Unmarshal(b, &both); err != nil {
		return nil, err
	}
	m := both.Manifest
	switch {
	case present(both.FSLayers):
		return nil, errors.New("docker schema 1, which cannot be verified")
	case present(both.Manifests):
		return nil, errors.New("both an index and a manifest")
	case m.SchemaVersion != 2:
		return nil, fmt.Errorf("schemaVersion %d, want 2", m.SchemaVersion)
	case m.MediaType != "" && d.MediaType != "" && m.MediaType != d.MediaType:
		return nil, fmt.Errorf("is labelled %q and calls itself %q", d.MediaType, m.MediaType)
	}
	if err := CheckDescriptor(m.Config); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if len(m.Layers) > maxLayers {
		return nil, fmt.Errorf("%d layers, the limit is %d", len(m.Layers), maxLayers)
	}
	sizes := map[digest.Digest]int64{}
	for i, l := range m.Layers {
		if err := CheckDescriptor(l); err != nil {
			return nil, fmt.Errorf("layers[%d]: %w", i, err)
		}
		// A layer may come twice, but one of two sizes never arrives.
		if size, twice := sizes[l.Digest]; twice && size != l.Size {
			return nil, fmt.Errorf("layers[%d]: %s has %d bytes here and %d before", i, l.Digest, l.Size, size)
		}
		sizes[l.Digest] = l.Size
	}
	return &m, nil
}

// maxLayers of an image. A manifest of the size that registries accept has room
// for tens of thousands, each of which costs whoever unpacks it open files.
// Builders stop at 127, which was once the kernel's bound.
const maxLayers = 1024

func present(raw json.RawMessage) bool {
	return len(raw) > 0 && !bytes.Equal(raw, []byte("null"))
}

// CheckDescriptor refuses a descriptor from which no path, URL or allocation may
// be made: a digest that is not lower-case hexadecimal of a known algorithm
// (CVE-2024-3727), or a negative size.
func CheckDescriptor(d ocispec.Descriptor) error {
	if err := checkDigest(d.Digest); err != nil {
		return err
	}
	if d.Size < 0 {
		return fmt.Errorf("size %d of %s", d.Size, d.Digest)
	}
	return nil
}

var errUnsupportedDigest = errors.New("not a sha256 digest, and no other kind is supported")

func checkDigest(d digest.Digest) error {
	if !strings.HasPrefix(string(d), "sha256:") {
		return fmt.Errorf("%q: %w", string(d), errUnsupportedDigest)
	}
	if err := d.Validate(); err != nil {
		return fmt.Errorf("%q: %w", string(d), err)
	}
	return nil
}
