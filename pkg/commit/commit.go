// Package commit makes images: of a tree and perhaps an image that it was made
// from, it makes a layer, a config and a manifest.
//
//	a tree's tar ── gzip ── layer ──┐
//	an image's config ── changes ── config ── manifest
//	an image's layers ──────────────┘
//
// What a config has that this package does not know stays in it.
package commit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"peel/pkg/layers"
	"peel/pkg/layout"
	"peel/pkg/store"
)

// Base is what the new layer goes on. The zero value is nothing.
type Base struct {
	// Config is the bytes of an image's config. Its layers need not be among Layers:
	// then all that it says of them is left out.
	Config []byte
	// Layers are those below the new one, the lowest first. They are all that Config
	// names, or none.
	Layers []ocispec.Descriptor
}

// Options say what else goes into the image. The zero value is right.
type Options struct {
	// Platform is the image's where the base has no config.
	Platform ocispec.Platform
	Author   string
	Comment  string
	// CreatedBy is the command that made the layer, for its history.
	CreatedBy string
	Created   time.Time
	Changes   []Change
	// Compression of the layer; empty is gzip.
	Compression layers.Compression
}

// Blobs is where an image's blobs come from; a *store.Store is one.
type Blobs interface {
	Blob(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error)
	ReadBlob(d ocispec.Descriptor) ([]byte, error)
}

// Layer makes an image whose topmost layer is the tar that write writes, and returns
// the descriptor of its manifest. The layers of the base must be in the stage, or
// where that is going to be published.
func Layer(s *layout.Stage, base Base, write func(io.Writer) error, o Options) (ocispec.Descriptor, error) {
	var config config
	if err := config.parse(base.Config); err != nil {
		return ocispec.Descriptor{}, err
	}
	layer, diffID, err := addLayer(s, write, o.Compression)
	if err != nil {
		return layer, err
	}
	if len(base.Layers) == 0 {
		config.RootFS, config.History = ocispec.RootFS{}, nil
	}
	config.RootFS.Type = "layers"
	config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, diffID)
	created := o.Created.UTC()
	config.History = append(config.History, ocispec.History{Created: &created, CreatedBy: o.CreatedBy, Author: o.Author, Comment: o.Comment})
	config.Created = &created
	if o.Author != "" {
		config.Author = o.Author
	}
	if config.OS == "" {
		config.Platform = o.Platform
	}
	var state changeState
	for _, c := range o.Changes {
		c(&config.Config, &state)
	}
	b, err := config.marshal()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	described, err := s.AddBytes(ocispec.MediaTypeImageConfig, b)
	if err != nil {
		return described, err
	}
	b, err = json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    described,
		Layers:    append(asOCI(base.Layers), layer),
	})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d, err := s.AddBytes(ocispec.MediaTypeImageManifest, b)
	d.Platform = &config.Platform
	return d, err
}

// addLayer makes the blob of a layer.
func addLayer(s *layout.Stage, write func(io.Writer) error, c layers.Compression) (d ocispec.Descriptor, diffID digest.Digest, err error) {
	mediaType, compress, err := compressor(c)
	if err != nil {
		return d, "", err
	}
	tar := sha256.New()
	d, err = s.Add(mediaType, func(w io.Writer) error {
		z, err := compress(w)
		if err != nil {
			return err
		}
		err = write(io.MultiWriter(tar, z))
		return errors.Join(err, z.Close())
	})
	return d, digest.NewDigest(digest.SHA256, tar), err
}

// asOCI gives layers of docker's media types those that an OCI manifest has for them.
func asOCI(list []ocispec.Descriptor) []ocispec.Descriptor {
	out := make([]ocispec.Descriptor, 0, len(list)+1)
	for _, d := range list {
		switch d.MediaType {
		case "application/vnd.docker.image.rootfs.diff.tar.gzip":
			d.MediaType = ocispec.MediaTypeImageLayerGzip
		case "application/vnd.docker.image.rootfs.diff.tar":
			d.MediaType = ocispec.MediaTypeImageLayer
		case "application/vnd.docker.image.rootfs.diff.tar.zstd":
			d.MediaType = ocispec.MediaTypeImageLayerZstd
		}
		out = append(out, d)
	}
	return out
}

// Copy puts an image into the stage as it is, and returns the descriptor of its
// manifest. A manifest of docker's, which many readers of layouts do not take, becomes
// one of OCI that says the same.
func Copy(ctx context.Context, s *layout.Stage, from Blobs, img *store.Image) (ocispec.Descriptor, error) {
	if err := CopyLayers(ctx, s, from, img.Manifest.Layers); err != nil {
		return ocispec.Descriptor{}, err
	}
	if err := copySmall(s, from, img.Manifest.Config); err != nil {
		return ocispec.Descriptor{}, err
	}
	if img.Descriptor.MediaType != dockerManifest {
		return img.Descriptor, copySmall(s, from, img.Descriptor)
	}
	m := img.Manifest
	m.MediaType, m.Config.MediaType, m.Layers = ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, asOCI(m.Layers)
	b, err := json.Marshal(m)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d, err := s.AddBytes(m.MediaType, b)
	d.Platform = img.Descriptor.Platform
	return d, err
}

const dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"

func copySmall(s *layout.Stage, from Blobs, d ocispec.Descriptor) error {
	b, err := from.ReadBlob(d)
	if err != nil {
		return err
	}
	return s.Copy(d, bytes.NewReader(b))
}

// copiers is how many blobs are copied at a time: each is hashed on a processor of
// its own.
const copiers = 4

// CopyLayers puts layers into the stage that the layout does not have yet. One
// that is not what its descriptor says is a *store.DamagedError.
func CopyLayers(ctx context.Context, s *layout.Stage, from Blobs, list []ocispec.Descriptor) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(copiers)
	seen := map[digest.Digest]bool{}
	for _, d := range list {
		if seen[d.Digest] || s.Has(d) {
			continue
		}
		seen[d.Digest] = true
		g.Go(func() error {
			r, err := from.Blob(ctx, d)
			if err != nil {
				return fmt.Errorf("layer %s: %w", d.Digest, err)
			}
			defer r.Close()
			err = s.Copy(d, until(ctx, r))
			if errors.Is(err, layout.ErrDigest) {
				err = &store.DamagedError{Digest: d.Digest}
			}
			return err
		})
	}
	return g.Wait()
}

// until is r until ctx ends.
func until(ctx context.Context, r io.Reader) io.Reader {
	return readerFunc(func(b []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(b)
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
