package image

import (
	"context"
	"errors"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/pkg/erofs"
	"peel/pkg/store"
)

// Restore is Prepare for an image of which the ID is all that is known. An index
// that is missing, or of another version, is made again of the layers; one of those
// missing is an ErrNotFound.
func (c *Cache) Restore(ctx context.Context, id ID) (*Prepared, error) {
	img, err := imageByID(id)
	if err != nil {
		return nil, err
	}
	p, err := c.Prepare(ctx, noBlobs{}, img, Options{})
	if errors.Is(err, ErrNotFound) {
		return nil, ErrNotFound // and not the digest of a blob that nobody knows
	}
	return p, err
}

// RestoreInMemory is InMemory for an image of which the ID is all that is known. A
// layer that is missing is an ErrNotFound, before use is called.
func (c *Cache) RestoreInMemory(ctx context.Context, id ID, use func(root *erofs.Inode, devices []erofs.Device) error) error {
	img, err := imageByID(id)
	if err != nil {
		return err
	}
	used := false
	err = c.InMemory(ctx, noBlobs{}, img, Options{}, func(root *erofs.Inode, devices []erofs.Device) error {
		used = true
		return use(root, devices)
	})
	if !used && errors.Is(err, ErrNotFound) {
		return ErrNotFound
	}
	return err
}

// imageByID is an image with nothing but its ID.
func imageByID(id ID) (*store.Image, error) {
	for _, d := range append([]digest.Digest{id.Manifest}, id.DiffIDs...) {
		if err := store.CheckDescriptor(ocispec.Descriptor{Digest: d}); err != nil {
			return nil, err
		}
	}
	img := &store.Image{Descriptor: ocispec.Descriptor{Digest: id.Manifest}}
	img.Config.RootFS.DiffIDs = id.DiffIDs
	img.Manifest.Layers = make([]ocispec.Descriptor, len(id.DiffIDs))
	return img, nil
}

// noBlobs is where there are no layers but those in the cache.
type noBlobs struct{}

func (noBlobs) Blob(context.Context, ocispec.Descriptor) (io.ReadCloser, error) {
	return nil, ErrNotFound
}
