package image

import (
	"context"
	"io"
	"os"

	"github.com/opencontainers/go-digest"

	"peel/pkg/layers/changeset"
	"peel/pkg/store"
)

// Tars gives the layers of a cache to who unpacks images. It keeps them from being
// pruned until it is closed. A nil one has no layers.
type Tars struct {
	cache *Cache
	lock  *os.File
}

// Tars opens the cache's layers to be read.
func (c *Cache) Tars() (*Tars, error) {
	lock, err := c.share()
	if err != nil {
		return nil, err
	}
	return &Tars{c, lock}, nil
}

func (t *Tars) Close() error {
	if t == nil {
		return nil
	}
	return t.lock.Close()
}

// Has tells whether a layer is there.
func (t *Tars) Has(diffID digest.Digest) bool {
	if t == nil {
		return false
	}
	_, err := t.cache.layer(diffID)
	return err == nil
}

// Sync writes all layers to disk (syncfs(2)), for one who is about to remove what
// they could be made of again.
func (t *Tars) Sync() error {
	if t == nil {
		return nil
	}
	return t.cache.sync()
}

// Over is blobs, with those layers as tars that are there.
func (t *Tars) Over(blobs changeset.Blobs) changeset.Blobs {
	if t == nil {
		return blobs
	}
	return tarsOver{blobs, t}
}

// DropDamaged is the cache's.
func (t *Tars) DropDamaged(ctx context.Context, img *store.Image) (dropped []digest.Digest, err error) {
	if t == nil {
		return nil, nil
	}
	return t.cache.DropDamaged(ctx, img)
}

type tarsOver struct {
	changeset.Blobs
	tars *Tars
}

// Tar makes it a changeset.Tars.
func (o tarsOver) Tar(diffID digest.Digest) (io.ReadCloser, int64, error) {
	l, err := o.tars.cache.layer(diffID)
	if err != nil {
		return nil, 0, nil // whatever is wrong with it, the blob is as good
	}
	f, err := os.Open(l.tar)
	if err != nil {
		return nil, 0, nil
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(f, l.tarSize), f}, l.tarSize, nil
}
