package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"peel/pkg/layers"
	"peel/pkg/layers/changeset"
	"peel/pkg/store"
)

func TestNothingOfABadLayerIsSeen(t *testing.T) {
	good := tarOf(t, file("a", "1"))
	for _, c := range []struct {
		name string
		tars [][]byte
		lie  func(*blobs, *store.Image)
		want func(error) bool
	}{
		{"another DiffID", [][]byte{good}, func(_ *blobs, img *store.Image) { img.Config.RootFS.DiffIDs[0] = digest.FromString("other") },
			func(err error) bool { var e *layers.MismatchError; return errors.As(err, &e) }},
		{"a tar cut short", [][]byte{tarOf(t, file("big", strings.Repeat("x", 5000)))[:3000]}, nil,
			func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }},
		{"no tar at all", [][]byte{bytes.Repeat([]byte("garbage "), 1000)}, nil,
			func(err error) bool { return strings.Contains(err.Error(), "malformed tar header") }},
		{"a blob cut short", [][]byte{good}, func(b *blobs, img *store.Image) {
			d := img.Manifest.Layers[0].Digest
			b.bytes[d] = b.bytes[d][:len(b.bytes[d])-9]
		}, func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }},
		{"a link to nothing", [][]byte{tarOf(t, entry{Header: tar.Header{Name: "l", Typeflag: tar.TypeLink, Linkname: "nothing"}})}, nil,
			func(err error) bool { return errors.Is(err, changeset.ErrNoTarget) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			cache := open(t)
			src, img := imageOf(t, c.tars...)
			if c.lie != nil {
				c.lie(src, img)
			}
			_, err := cache.Prepare(context.Background(), src, img, Options{})
			var l *changeset.LayerError
			if err == nil || !c.want(err) || !errors.As(err, &l) || l.Index != 0 {
				t.Errorf("%v", err)
			}
			nothingLeft(t, cache)
			if _, err := cache.Find(IDOf(img)); !errors.Is(err, ErrNotFound) {
				t.Errorf("found: %v", err)
			}
			if c.name != "a link to nothing" { // that layer is sound, beside another one below
				if _, err := cache.layer(img.Config.RootFS.DiffIDs[0]); !errors.Is(err, ErrNotFound) {
					t.Errorf("the layer is there: %v", err)
				}
			}
		})
	}
}

func TestCancellingLeavesNothing(t *testing.T) {
	c := open(t)
	src, img := imageOf(t, layersOf(t)...)
	ctx, cancel := context.WithCancel(context.Background())
	_, err := c.Prepare(ctx, &cancelling{src, cancel}, img, Options{})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	nothingLeft(t, c)
}

// cancelling cancels when half of a blob has been read, and gives no more.
type cancelling struct {
	*blobs
	cancel func()
}

func (b *cancelling) Blob(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	r, err := b.blobs.Blob(ctx, d)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(r, d.Size/2), waitFor{ctx, b.cancel}), r}, nil
}

type waitFor struct {
	ctx    context.Context
	cancel func()
}

func (w waitFor) Read([]byte) (int, error) {
	w.cancel()
	<-w.ctx.Done()
	return 0, w.ctx.Err()
}

func TestWhatIsDamagedIsMadeAgain(t *testing.T) {
	truncate := func(path string) error { return os.Truncate(path, 512) }
	for _, c := range []struct {
		name   string
		damage func(*Cache, *Prepared, *store.Image) error
	}{
		{"the index is gone", func(_ *Cache, p *Prepared, _ *store.Image) error { return os.Remove(p.Index) }},
		{"the index is cut short", func(_ *Cache, p *Prepared, _ *store.Image) error { return truncate(p.Index) }},
		{"the index has no size", func(_ *Cache, p *Prepared, _ *store.Image) error { return os.Remove(filepath.Dir(p.Index) + "/size") }},
		{"the index is of another version", func(_ *Cache, p *Prepared, _ *store.Image) error {
			return writeSizes(filepath.Dir(p.Index), "index-0", 512)
		}},
		{"a tar is gone", func(_ *Cache, p *Prepared, _ *store.Image) error { return os.Remove(p.Devices[1]) }},
		{"a tar is cut short", func(_ *Cache, p *Prepared, _ *store.Image) error { return truncate(p.Devices[0]) }},
		{"the sparse files are gone", func(_ *Cache, p *Prepared, _ *store.Image) error { return os.Remove(p.Devices[4]) }},
		{"a tar has other headers, and the index is gone", func(_ *Cache, p *Prepared, _ *store.Image) error {
			f, err := os.OpenFile(p.Devices[0], os.O_RDWR, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte("XXXX"), 512)
			return errors.Join(err, f.Close(), os.Remove(p.Index))
		}},
		{"a bit of a tar has flipped, and somebody looks", func(c *Cache, p *Prepared, img *store.Image) error {
			f, err := os.OpenFile(p.Devices[0], os.O_RDWR, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte("X"), 100_000)
			dropped, dropErr := c.DropDamaged(context.Background(), img)
			if len(dropped) != 1 || dropped[0] != img.Config.RootFS.DiffIDs[0] {
				err = fmt.Errorf("dropped %v", dropped)
			}
			return errors.Join(err, f.Close(), dropErr)
		}},
		{"a bit of a sparse file has flipped, and somebody looks", func(c *Cache, p *Prepared, img *store.Image) error {
			f, err := os.OpenFile(p.Devices[4], os.O_RDWR, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte("M"), 1<<20) // of the word "middle"
			dropped, dropErr := c.DropDamaged(context.Background(), img)
			if len(dropped) != 1 || dropped[0] != img.Config.RootFS.DiffIDs[2] {
				err = fmt.Errorf("dropped %v", dropped)
			}
			return errors.Join(err, f.Close(), dropErr)
		}},
		{"nothing, and somebody looks", func(c *Cache, p *Prepared, img *store.Image) error {
			dropped, err := c.DropDamaged(context.Background(), img)
			if len(dropped) > 0 {
				return fmt.Errorf("dropped %v", dropped)
			}
			return err
		}},
		{"somebody was killed while fetching", func(c *Cache, p *Prepared, img *store.Image) error {
			dir := c.ingestDir(img.Config.RootFS.DiffIDs[0])
			return errors.Join(os.RemoveAll(c.layerDir(img.Config.RootFS.DiffIDs[0])), os.Mkdir(dir, 0o700),
				os.WriteFile(dir+"/layer.tar", bytes.Repeat([]byte("x"), 4<<20), 0o600), os.Symlink("x", dir+"/size"))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cache, tars := open(t), layersOf(t)
			src, img := imageOf(t, tars...)
			p := prepare(t, cache, src, img)
			want, err := os.ReadFile(p.Index)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.damage(cache, p, img); err != nil {
				t.Fatal(err)
			}
			if _, err := cache.Find(IDOf(img)); !errors.Is(err, ErrNotFound) {
				t.Errorf("found: %v", err)
			}
			p = prepare(t, cache, src, img)
			nothingLeft(t, cache)
			got, err := os.ReadFile(p.Index)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%v, or another index", err)
			}
			for i, id := range img.Config.RootFS.DiffIDs {
				b, err := os.ReadFile(p.Devices[i])
				if n := len(tars[i]); len(b) >= n {
					b = b[:n] // without what fills up the last block
				}
				if err != nil || digest.FromBytes(b) != id {
					t.Errorf("layer %d: %v, or other bytes", i, err)
				}
			}
		})
	}
}

func TestAFullDiskLeavesNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root, to mount a small file system")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skip("SKIPPED: needs CAP_SYS_ADMIN, to mount a small file system: ", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	src, img := imageOf(t, layersOf(t)...)
	if _, err := c.Prepare(context.Background(), src, img, Options{}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("Prepare: %v", err)
	}
	nothingLeft(t, c)
	if err := WriteFile(context.Background(), src, img, dir+"/image", false, Options{}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("WriteFile: %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 {
		t.Errorf("%v, left: %v", err, entries)
	}
}
