package image

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"peel/internal/flock"
	"peel/pkg/erofs"
	"peel/pkg/store"
)

// Verify reads every layer of the cache and compares it with its DiffID, jobs at a
// time; then it makes the indexes once more and compares those. Of an index whose
// layers are damaged nothing is said. images may have been prepared, and need not;
// the layers of containers have to be there. It changes nothing. The findings come
// sorted by path. The files of unpacked images are not read: no digest is known of
// them.
func (c *Cache) Verify(ctx context.Context, images, containers []ID, jobs int) ([]store.Finding, store.Checked, error) {
	for _, id := range slices.Concat(images, containers) {
		if _, err := imageByID(id); err != nil {
			return nil, store.Checked{}, err
		}
	}
	lock, err := c.share()
	if err != nil {
		return nil, store.Checked{}, err
	}
	defer lock.Close()
	v := &verifier{cache: c, damaged: map[digest.Digest]bool{}, layers: diffIDsOf(slices.Concat(images, containers)), indexes: map[digest.Digest]ID{}}
	for _, id := range slices.Concat(images, containers) {
		v.indexes[id.Manifest] = id
	}
	if err := errors.Join(v.each(ctx, "layers/sha256", jobs, v.layer), ctx.Err()); err != nil {
		return nil, v.done, err
	}
	if err := errors.Join(v.each(ctx, "erofs/sha256", jobs, v.index), ctx.Err()); err != nil {
		return nil, v.done, err
	}
	if err := v.leftovers(); err != nil {
		return nil, v.done, err
	}
	for d := range diffIDsOf(containers) {
		if path := c.layerDir(d); gone(path) {
			v.found(store.Missing, path, d)
		}
	}
	slices.SortFunc(v.findings, func(a, b store.Finding) int { return strings.Compare(a.Path, b.Path) })
	return v.findings, v.done, nil
}

func diffIDsOf(ids []ID) map[digest.Digest]bool {
	set := map[digest.Digest]bool{}
	for _, id := range ids {
		for _, d := range id.DiffIDs {
			set[d] = true
		}
	}
	return set
}

type verifier struct {
	cache   *Cache
	layers  map[digest.Digest]bool // that are needed
	indexes map[digest.Digest]ID   // that are needed

	mu       sync.Mutex
	findings []store.Finding        // guarded by mu
	done     store.Checked          // guarded by mu
	damaged  map[digest.Digest]bool // guarded by mu; layers
}

// each calls check for all entries of a directory that have digests as names.
func (v *verifier) each(ctx context.Context, dir string, jobs int, check func(context.Context, string, digest.Digest) error) error {
	dir = filepath.Join(v.cache.root, dir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(jobs, 1))
	for _, e := range entries {
		path, d := filepath.Join(dir, e.Name()), digest.NewDigestFromEncoded(digest.SHA256, e.Name())
		if d.Validate() != nil || !e.IsDir() {
			v.found(store.Unknown, path, "")
			continue
		}
		g.Go(func() error { return check(ctx, path, d) })
	}
	return g.Wait()
}

func (v *verifier) found(what store.What, path string, d digest.Digest) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.findings = append(v.findings, store.Finding{What: what, Path: path, Digest: d})
}

func (v *verifier) count(files int, bytes int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.done.Files += files
	v.done.Bytes += bytes
}

func (v *verifier) layer(ctx context.Context, path string, d digest.Digest) error {
	l, err := v.cache.layer(d)
	ok := err == nil
	if ok {
		v.count(1, l.tarSize+l.sparseSize)
		ok, err = v.cache.intact(ctx, d)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	switch {
	case gone(path): // its turn came too late
	case !ok || err != nil:
		v.mu.Lock()
		v.damaged[d] = true
		v.mu.Unlock()
		v.found(store.Damaged, path, d)
	case !v.layers[d]:
		v.found(store.Unused, path, d)
	}
	return nil
}

func gone(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

func (v *verifier) index(ctx context.Context, path string, manifest digest.Digest) error {
	id, needed := v.indexes[manifest]
	if !needed {
		v.found(store.Unused, path, manifest)
		return nil
	}
	if v.layersDamaged(id) {
		return nil
	}
	n, err := v.cache.compareIndex(ctx, id)
	v.count(1, n)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil && !gone(path) {
		v.found(store.Damaged, path, manifest)
	}
	return nil
}

func (v *verifier) layersDamaged(id ID) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.ContainsFunc(id.DiffIDs, func(d digest.Digest) bool { return v.damaged[d] })
}

// compareIndex makes an index once more and compares it with the one that is there,
// which has n bytes.
func (c *Cache) compareIndex(ctx context.Context, id ID) (n int64, err error) {
	p, err := c.find(id)
	if err != nil {
		return 0, err
	}
	f, err := os.Open(p.Index)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	img, err := imageByID(id)
	if err != nil {
		return 0, err
	}
	t, err := c.load(ctx, noBlobs{}, img, Options{})
	if err != nil {
		return 0, err
	}
	w := &comparer{f: f}
	if _, err := erofs.WriteIndex(w, t.root, t.devices, options(id.Manifest)); err != nil {
		return w.n, err
	}
	fi, err := f.Stat()
	if err == nil && fi.Size() != w.n {
		err = errDiffers
	}
	return w.n, err
}

// comparer compares what is written to it with a file.
type comparer struct {
	f   io.ReaderAt
	n   int64
	buf []byte
}

func (c *comparer) Write(p []byte) (int, error) {
	if len(c.buf) < len(p) {
		c.buf = make([]byte, len(p))
	}
	got := c.buf[:len(p)]
	if n, err := c.f.ReadAt(got, c.n); n < len(p) {
		return 0, cmp.Or(err, io.ErrUnexpectedEOF)
	}
	if !bytes.Equal(p, got) {
		return 0, errDiffers
	}
	c.n += int64(len(p))
	return len(p), nil
}

// leftovers is what killed processes have left. What is locked is on its way.
func (v *verifier) leftovers() error {
	for _, dir := range []string{"layers/ingest", "trees/ingest", "trees/sha256", "erofs", "layers"} {
		entries, err := os.ReadDir(filepath.Join(v.cache.root, dir))
		if err != nil {
			return err
		}
		for _, e := range entries {
			path := filepath.Join(v.cache.root, dir, e.Name())
			switch {
			case dir == "layers/ingest", dir == "trees/ingest":
				if !inWork(path) {
					v.found(store.Partial, path, "")
				}
			case dir == "trees/sha256": // of its files nobody knows a digest
				name, _, _ := strings.Cut(e.Name(), ".")
				d := digest.NewDigestFromEncoded(digest.SHA256, name)
				if d.Validate() != nil {
					v.found(store.Unknown, path, "")
				} else if _, needed := v.indexes[d]; !needed {
					v.found(store.Unused, path, d)
				}
			case e.Name() == "sha256" || dir == "layers" && (e.Name() == "ingest" || e.Name() == "lock"):
			case dir == "erofs" && (strings.HasPrefix(e.Name(), indexPrefix) || strings.HasPrefix(e.Name(), checkPrefix)):
				v.found(store.Partial, path, "")
			default:
				v.found(store.Unknown, path, "")
			}
		}
	}
	return nil
}

func inWork(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return gone(path)
	}
	defer f.Close()
	free, err := flock.Try(f)
	return err == nil && !free
}

// Drop removes those findings that are damaged, so that Prepare makes them again,
// and the indexes that were made of damaged layers: of ids, and of images that are
// not among them. Nobody may use the cache meanwhile: ErrInUse. Whoever has an image
// mounted keeps it as it is.
func (c *Cache) Drop(findings []store.Finding, ids []ID) error {
	f, err := c.exclude()
	if err != nil {
		return err
	}
	defer f.Close()
	damaged := map[digest.Digest]bool{}
	for _, f := range findings {
		if f.What != store.Damaged {
			continue
		}
		damaged[f.Digest] = true
		for _, dir := range []string{c.layerDir(f.Digest), c.indexDir(f.Digest)} {
			if dir == f.Path {
				if err := os.RemoveAll(dir); err != nil {
					return err
				}
			}
		}
	}
	sound := map[string]bool{}
	for _, id := range ids {
		if !slices.ContainsFunc(id.DiffIDs, func(d digest.Digest) bool { return damaged[d] }) {
			sound[id.Manifest.Encoded()] = true
		}
	}
	entries, err := os.ReadDir(filepath.Join(c.root, "erofs/sha256"))
	for _, e := range entries {
		if !sound[e.Name()] {
			err = errors.Join(err, os.RemoveAll(filepath.Join(c.root, "erofs/sha256", e.Name())))
		}
	}
	return err
}
