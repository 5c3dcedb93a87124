// Package layout writes images into OCI image layouts (image-spec image-layout.md),
// the directories that skopeo, umoci and podman call oci:DIR:
//
//	DIR/oci-layout            what kind of directory this is
//	DIR/index.json            a descriptor for each image, with its tag
//	DIR/blobs/sha256/HEX      manifests, configs, layers
//
// An image is put together in a staging directory, and then published. A layout
// that was not there appears by one rename. Into one that is there the blobs go
// first, and index.json, which alone makes them an image, is replaced last. So
// whoever is killed leaves what was there before, and a staging directory that the
// next to write there removes.
package layout

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"regexp"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var (
	// ErrNotLayout: a directory that is not empty and no layout either.
	ErrNotLayout = errors.New("is no OCI image layout")
	// ErrDigest: a blob is not what its descriptor says.
	ErrDigest = errors.New("is not what its descriptor says")
)

// Stage is an image on its way into a layout. Several goroutines may add blobs.
type Stage struct {
	target string   // the layout; empty for one that is only to be archived
	dir    string   // the staging directory
	lock   *os.File // of dir
}

// tree is the layout in the staging directory.
func (s *Stage) tree() string             { return filepath.Join(s.dir, "layout") }
func blobsIn(layout string) string        { return filepath.Join(layout, ocispec.ImageBlobsDir, "sha256") }
func (s *Stage) staged(hex string) string { return filepath.Join(blobsIn(s.tree()), hex) }

// Add makes a blob of what write writes.
func (s *Stage) Add(mediaType string, write func(io.Writer) error) (ocispec.Descriptor, error) {
	f, err := os.CreateTemp(s.dir, "blob-")
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	w := &counter{w: f, hash: sha256.New()}
	err = errors.Join(write(w), f.Chmod(blobMode), f.Close())
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.NewDigest(digest.SHA256, w.hash), Size: w.n}
	if err == nil {
		err = os.Rename(f.Name(), s.staged(d.Digest.Encoded()))
	}
	return d, err
}

// AddBytes makes a blob of b.
func (s *Stage) AddBytes(mediaType string, b []byte) (ocispec.Descriptor, error) {
	return s.Add(mediaType, func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
}

// Copy takes over a blob. ErrDigest where r has other bytes than d says.
func (s *Stage) Copy(d ocispec.Descriptor, r io.Reader) error {
	got, err := s.Add(d.MediaType, func(w io.Writer) error {
		// Neither side of the copy knows a faster way, for the bytes are to be looked at.
		_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{io.LimitReader(r, d.Size+1)}, make([]byte, 1<<20))
		return err
	})
	if err == nil && (got.Digest != d.Digest || got.Size != d.Size) {
		err = errors.Join(fmt.Errorf("blob %s: %w", d.Digest, ErrDigest), os.Remove(s.staged(got.Digest.Encoded())))
	}
	return err
}

// Has tells whether the layout to publish in has the blob already.
func (s *Stage) Has(d ocispec.Descriptor) bool {
	if s.target == "" {
		return false
	}
	info, err := os.Lstat(filepath.Join(blobsIn(s.target), d.Digest.Encoded()))
	return err == nil && info.Mode().IsRegular() && info.Size() == d.Size
}

// counter counts and digests what goes through it.
type counter struct {
	w    io.Writer
	hash hash.Hash
	n    int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.hash.Write(b[:n])
	c.n += int64(n)
	return n, err
}

// refName is image-spec's grammar of org.opencontainers.image.ref.name (annotations.md).
var refName = regexp.MustCompile(`^[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*(?:/[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*)*$`)

// ValidTag tells whether an image of a layout may have the tag.
func ValidTag(tag string) bool { return refName.MatchString(tag) }

// tagged adds an image to an index under a tag, which is taken from the image that
// had it.
func tagged(index *ocispec.Index, d ocispec.Descriptor, tag string) {
	d.Annotations = map[string]string{ocispec.AnnotationRefName: tag}
	kept := make([]ocispec.Descriptor, 0, len(index.Manifests)+1)
	for _, m := range index.Manifests {
		name := m.Annotations[ocispec.AnnotationRefName]
		// Who had no name gets one, rather than being there twice.
		if name != tag && (name != "" || m.Digest != d.Digest) {
			kept = append(kept, m)
		}
	}
	index.Manifests = append(kept, d)
}

func emptyIndex() *ocispec.Index {
	return &ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
}

// marker is the file oci-layout.
func marker() []byte {
	b, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		panic("layout: a constant that cannot be marshalled: " + err.Error())
	}
	return b
}

func checkMarker(layout string) error {
	path := filepath.Join(layout, ocispec.ImageLayoutFile)
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var m ocispec.ImageLayout
	if json.Unmarshal(b, &m) != nil || m.Version != ocispec.ImageLayoutVersion {
		return fmt.Errorf("%s %w of version %s", layout, ErrNotLayout, ocispec.ImageLayoutVersion)
	}
	return nil
}
