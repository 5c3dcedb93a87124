package image

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/pkg/image/merge"
	"peel/pkg/layers"
	"peel/pkg/layers/changeset"
	"peel/pkg/layers/tar"
	"peel/pkg/progress"
	"peel/pkg/store"
)

// fetcher brings the layers of one image into the cache.
type fetcher struct {
	cache *Cache
	src   changeset.Blobs
	img   *store.Image
	o     Options
	turns *changeset.Turns
	job   *merge.Job
}

// layer returns layer i, from the cache or else from its blob.
func (f *fetcher) layer(ctx context.Context, i int) (*merge.Layer, *files, error) {
	d, diffID := f.img.Manifest.Layers[i], f.img.Config.RootFS.DiffIDs[i]
	tree, ready, err := f.cached(ctx, i, diffID)
	if errors.Is(err, ErrNotFound) {
		tree, ready, err = f.fetch(ctx, i, d, diffID)
	}
	if err == nil {
		f.o.Progress.Send(progress.Event{Kind: progress.Unpacked, Digest: d.Digest, Total: d.Size, Current: d.Size})
	}
	return tree, ready, err
}

// cached reads the headers of a layer that is there. One that cannot be read any
// more counts as not there: it could be read when it was fetched.
func (f *fetcher) cached(ctx context.Context, i int, diffID digest.Digest) (*merge.Layer, *files, error) {
	ready, err := f.cache.layer(diffID)
	if err != nil {
		return nil, nil, err
	}
	tree, err := f.scan(ctx, i, ready)
	var limit *changeset.LimitError
	var tarLimit *tar.LimitError
	if err != nil && ctx.Err() == nil && !errors.As(err, &limit) && !errors.As(err, &tarLimit) {
		return nil, nil, ErrNotFound
	}
	return tree, ready, err
}

// fetch decompresses a layer into its file. The file gets its name when its DiffID
// has been found right; by then, its headers have been read too.
func (f *fetcher) fetch(ctx context.Context, i int, d ocispec.Descriptor, diffID digest.Digest) (tree *merge.Layer, ready *files, err error) {
	// Opening reads the first bytes: a layer takes its turn when they are there.
	r, err := changeset.OpenLayer(ctx, f.src, d, diffID, f.o.Progress)
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	ingest := f.cache.ingestDir(diffID)
	lock, err := lockDir(ctx, ingest)
	if err != nil {
		return nil, nil, err
	}
	defer lock.Close()
	// Who held the lock before may have done all.
	if tree, ready, err = f.cached(ctx, i, diffID); !errors.Is(err, ErrNotFound) {
		return tree, ready, errors.Join(err, os.RemoveAll(ingest))
	}
	if err := f.turns.Take(ctx, d.Size); err != nil {
		return nil, nil, err
	}
	defer f.turns.Give()

	in := &incoming{dir: ingest, layer: r.Reader, limit: f.job.Limits.LayerBytes(d.Size)}
	tree, err = in.read(ctx, f, i, d.Size, diffID)
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(ingest))
	}
	if err := replaceDir(ingest, f.cache.layerDir(diffID)); err != nil {
		return nil, nil, err
	}
	if err := os.RemoveAll(ingest); err != nil { // a damaged one that was there before
		return nil, nil, err
	}
	ready, err = f.cache.layer(diffID)
	return tree, ready, err
}

// incoming is a layer on its way into the cache.
type incoming struct {
	dir   string
	layer *layers.Reader
	limit int64 // bytes of tar

	tar    *os.File
	n      int64 // bytes of tar so far
	sparse *os.File
	end    int64 // of sparse
}

// read writes the layer's files and reads its headers on the way.
func (in *incoming) read(ctx context.Context, f *fetcher, i int, blobSize int64, diffID digest.Digest) (tree *merge.Layer, err error) {
	if in.tar, err = create(in.dir, "layer.tar"); err != nil {
		return nil, err
	}
	defer func() {
		err = errors.Join(err, in.tar.Close())
		if in.sparse != nil {
			err = errors.Join(err, in.sparse.Close())
		}
	}()
	t := tar.NewReader(in, f.job.Limits.Tar)
	defer t.Close()
	if tree, err = merge.Read(ctx, f.job, t, i, blobSize, in); err != nil {
		return nil, err
	}
	for { // what lies behind the archive belongs to the layer too
		c, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		c.Release()
	}
	if err := in.layer.Finish(diffID); err != nil {
		return nil, err
	}
	if err := in.tar.Truncate(wholeBlocks(in.n)); err != nil {
		return nil, err
	}
	if in.sparse != nil {
		if err := in.sparse.Truncate(in.end); err != nil {
			return nil, err
		}
	}
	return tree, writeSizes(in.dir, layerVersion, in.n, in.end)
}

// create makes a file, or empties the one that somebody has left who was killed.
func create(dir, name string) (*os.File, error) {
	return os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
}

// Next hands out the layer's next chunk, which it has written.
func (in *incoming) Next() (*layers.Chunk, error) {
	c, err := in.layer.Next()
	if err != nil {
		return nil, err
	}
	in.n += int64(len(c.Bytes))
	err = changeset.Exceeded("bytes of a layer", in.n, in.limit)
	if err == nil {
		_, err = in.tar.Write(c.Bytes)
	}
	if err != nil {
		c.Release()
		return nil, err
	}
	return c, nil
}

// Expand writes a file that has holes behind those that were before.
func (in *incoming) Expand(h *tar.Header, r merge.Archive) (off int64, err error) {
	if in.sparse == nil {
		if in.sparse, err = create(in.dir, "sparse"); err != nil {
			return 0, err
		}
	}
	off = in.end
	in.end += wholeBlocks(h.Size)
	for {
		p, err := r.Piece()
		if errors.Is(err, io.EOF) {
			return off, nil
		}
		if err != nil {
			return 0, err
		}
		if _, err := in.sparse.WriteAt(p.Bytes, off+p.Off); err != nil {
			return 0, err
		}
	}
}
