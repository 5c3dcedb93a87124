package image

import (
	"context"
	"errors"
	"io"
	"os"

	"peel/pkg/erofs"
	"peel/pkg/layers/changeset"
	"peel/pkg/store"
)

// Write writes the image to w as one EROFS file system with all inside, which
// needs neither the cache nor root to be made. The same image gives the same bytes.
// Its layers are brought into the cache, as Prepare does; its index is not made.
func (c *Cache) Write(ctx context.Context, w io.Writer, src changeset.Blobs, img *store.Image, o Options) (size int64, err error) {
	err = c.InMemory(ctx, src, img, o, func(root *erofs.Inode, devices []erofs.Device) error {
		for i := range devices {
			devices[i].Bytes = &cancellable{ctx, devices[i].Bytes}
		}
		size, err = erofs.WriteImage(w, root, devices, options(img.Descriptor.Digest))
		if cause := context.Cause(ctx); cause != nil && err != nil {
			return errors.Join(cause, err)
		}
		return err
	})
	return size, err
}

// InMemory gives use the image's tree, and the layers' tars where the bytes of its
// files lie, each an *os.File. Its layers are brought into the cache, as Prepare does. What use is
// given is its own until it returns.
func (c *Cache) InMemory(ctx context.Context, src changeset.Blobs, img *store.Image, o Options, use func(root *erofs.Inode, devices []erofs.Device) error) error {
	if err := store.CheckDescriptor(img.Descriptor); err != nil {
		return err
	}
	lock, err := c.share()
	if err != nil {
		return err
	}
	defer lock.Close()
	t, err := c.load(ctx, src, img, o)
	if err != nil {
		return err
	}
	for i, path := range t.paths {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		t.devices[i].Bytes = f
	}
	return use(t.root, t.devices)
}

// cancellable is a file until its context ends.
type cancellable struct {
	ctx context.Context
	f   io.ReaderAt
}

func (c *cancellable) ReadAt(p []byte, off int64) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.f.ReadAt(p, off)
}
