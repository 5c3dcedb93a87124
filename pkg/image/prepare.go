package image

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/opencontainers/go-digest"

	"peel/pkg/erofs"
	"peel/pkg/image/merge"
	"peel/pkg/layers/changeset"
	"peel/pkg/progress"
	"peel/pkg/store"
)

// Options says how to prepare. The zero value is right.
type Options struct {
	// Strict makes an error of what is otherwise a warning: attributes that no file
	// system would take.
	Strict bool
	// Sync has all written to disk before the image counts as prepared (syncfs(2),
	// once). Without it, a power failure soon after may mean to prepare it again.
	Sync bool
	// Jobs is how many layers are decompressed at a time. 0 is one more than there
	// are processors, as some wait for their blobs.
	Jobs     int
	Limits   changeset.Limits
	Progress progress.Func
}

// Prepare makes an image ready, if it is not so already. Layers that other images
// have brought are not asked for.
//
// An error is a *changeset.LayerError where one layer is to blame; in it may be a
// *changeset.EntryError, a *changeset.LimitError, a *layers.MismatchError or a
// *tar.Error.
func (c *Cache) Prepare(ctx context.Context, src changeset.Blobs, img *store.Image, o Options) (*Prepared, error) {
	if err := store.CheckDescriptor(img.Descriptor); err != nil {
		return nil, err
	}
	lock, err := c.share()
	if err != nil {
		return nil, err
	}
	p, err := c.prepare(ctx, src, img, o)
	if err != nil {
		lock.Close()
		return nil, err
	}
	p.lock = lock
	return p, nil
}

func (c *Cache) prepare(ctx context.Context, src changeset.Blobs, img *store.Image, o Options) (*Prepared, error) {
	if p, err := c.find(IDOf(img)); !errors.Is(err, ErrNotFound) {
		return p, err
	}
	t, err := c.load(ctx, src, img, o)
	if err != nil {
		return nil, err
	}
	if err := c.writeIndex(img.Descriptor.Digest, t); err != nil {
		return nil, err
	}
	if o.Sync {
		if err := c.sync(); err != nil {
			return nil, err
		}
	}
	return c.find(IDOf(img))
}

// merged is an image in memory.
type merged struct {
	root    *erofs.Inode
	devices []erofs.Device // without Bytes
	paths   []string       // of the devices
}

// load brings all layers into the cache that are not there, and merges them.
func (c *Cache) load(ctx context.Context, src changeset.Blobs, img *store.Image, o Options) (*merged, error) {
	n := len(img.Manifest.Layers)
	jobs := o.Jobs
	if jobs <= 0 {
		jobs = runtime.GOMAXPROCS(0) + 1
	}
	f := &fetcher{
		cache: c, src: src, img: img, o: o, turns: changeset.NewTurns(jobs),
		job: &merge.Job{Limits: o.Limits.WithDefaults(), Losses: &changeset.Losses{Strict: o.Strict}},
	}
	trees, ready := make([]*merge.Layer, n), make([]*files, n)
	g, ctx := errgroup.WithContext(ctx)
	for i := range n {
		g.Go(func() error {
			var err error
			trees[i], ready[i], err = f.layer(ctx, i)
			return layerError(img, i, err)
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	t := &merged{}
	for i, l := range ready {
		t.add(l.tar, wholeBlocks(l.tarSize), img.Config.RootFS.DiffIDs[i])
	}
	for _, i := range merge.Sparse(trees) {
		t.add(ready[i].sparse, ready[i].sparseSize, img.Config.RootFS.DiffIDs[i])
	}
	root, at, err := merge.Merge(trees)
	if err != nil {
		return nil, layerError(img, at, err)
	}
	t.root = root
	f.job.Losses.Report(o.Progress)
	return t, nil
}

func (t *merged) add(path string, size int64, diffID digest.Digest) {
	t.paths = append(t.paths, path)
	t.devices = append(t.devices, erofs.Device{Size: size, Tag: diffID.Encoded()})
}

func layerError(img *store.Image, i int, err error) error {
	if err == nil {
		return nil
	}
	return &changeset.LayerError{Index: i, Digest: img.Manifest.Layers[i].Digest, DiffID: img.Config.RootFS.DiffIDs[i], Err: err}
}

// What lies in ROOT/erofs and is on its way, or was.
const (
	indexPrefix = "index-"
	checkPrefix = "check-"
)

// writeIndex makes the directory of an image's index.
func (c *Cache) writeIndex(manifest digest.Digest, t *merged) (err error) {
	tmp, err := os.MkdirTemp(filepath.Join(c.root, "erofs"), indexPrefix)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, os.RemoveAll(tmp)) // but for what has been renamed
	}()
	f, err := os.OpenFile(filepath.Join(tmp, "index"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	size, err := erofs.WriteIndex(f, t.root, t.devices, options(manifest))
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := writeSizes(tmp, indexVersion, size); err != nil {
		return err
	}
	return replaceDir(tmp, c.indexDir(manifest))
}

// replaceDir renames a directory to where another one may be, which is no good any
// more, or as good as the new one.
func replaceDir(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.ENOENT) {
		err = os.Rename(from, to)
	}
	if errors.Is(err, unix.EINVAL) { // the file system cannot exchange
		err = errors.Join(os.RemoveAll(to), os.Rename(from, to))
	}
	if err != nil && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) { // by another process, this very moment
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// options makes the file system's UUID of its image's digest.
func options(manifest digest.Digest) erofs.Options {
	o := erofs.Options{Label: "peel"}
	for i := range o.UUID {
		o.UUID[i] = unhex(manifest.Encoded()[2*i])<<4 | unhex(manifest.Encoded()[2*i+1])
	}
	o.UUID[6] = o.UUID[6]&0x0f | 0x80 // RFC 9562, 5.8: of our own making
	o.UUID[8] = o.UUID[8]&0x3f | 0x80
	return o
}

func unhex(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	return c - '0'
}

func (c *Cache) sync() error {
	dir, err := os.Open(c.root)
	if err != nil {
		return err
	}
	defer dir.Close()
	return unix.Syncfs(int(dir.Fd()))
}
