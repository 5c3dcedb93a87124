package image

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/pkg/store"
)

// Unpacked is an image whose files are there, for the overlays of containers to lie
// on. It keeps them from being pruned until it is closed.
type Unpacked struct {
	Rootfs string // the path of the root file system, which nobody may change

	lock *os.File
}

// Close lets go of the image.
func (u *Unpacked) Close() error { return u.lock.Close() }

// Unpacked returns an image's files. Unless they are there, unpack makes them in a
// directory that does not exist yet, as "rootfs" in it; where others want them at
// the same time, one does it and the rest wait.
//
// Files of one image may belong to different ids: owners, part of a file name, tells
// apart what must not be mixed.
func (c *Cache) Unpacked(ctx context.Context, id ID, owners string, unpack func(dir string) error) (*Unpacked, error) {
	if err := store.CheckDescriptor(ocispec.Descriptor{Digest: id.Manifest}); err != nil {
		return nil, err // it is going to be a file name
	}
	lock, err := c.share()
	if err != nil {
		return nil, err
	}
	u := &Unpacked{Rootfs: filepath.Join(c.treeDir(id, owners), "rootfs"), lock: lock}
	if err := c.unpack(ctx, id, owners, unpack); err != nil {
		lock.Close()
		return nil, err
	}
	return u, nil
}

func (c *Cache) unpack(ctx context.Context, id ID, owners string, unpack func(dir string) error) error {
	home := c.treeDir(id, owners)
	there := func() (bool, error) {
		_, err := os.Lstat(home)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return err == nil, err
	}
	if ok, err := there(); ok || err != nil {
		return err
	}
	// What a killed process has left in it, unpack removes: only it may know how.
	ingest := filepath.Join(c.root, "trees/ingest", filepath.Base(home))
	lock, err := lockDir(ctx, ingest)
	if err != nil {
		return err
	}
	defer lock.Close()
	if ok, err := there(); ok || err != nil {
		return errors.Join(err, os.Remove(ingest))
	}
	tree := filepath.Join(ingest, "tree")
	if _, err := os.Lstat(tree); errors.Is(err, fs.ErrNotExist) { // else it is complete, and was not moved
		if err := unpack(tree); err != nil {
			return errors.Join(err, removeEmpty(ingest))
		}
	}
	if err := os.Rename(tree, home); err != nil {
		return err
	}
	return removeEmpty(ingest)
}

// removeEmpty removes a directory; one with anything in it is left to Prune.
func removeEmpty(dir string) error {
	err := os.Remove(dir)
	if errors.Is(err, fs.ErrExist) { // ENOTEMPTY
		return nil
	}
	return err
}

func (c *Cache) treeDir(id ID, owners string) string {
	name := id.Manifest.Encoded()
	if owners != "" {
		name += "." + owners
	}
	return filepath.Join(c.root, "trees/sha256", name)
}

// pruneTrees removes the unpacked images that are none of ids, and all that are not
// complete.
func (c *Cache) pruneTrees(ids []ID, remove func(path string) error) (freed int64, err error) {
	wanted := map[string]bool{}
	for _, id := range ids {
		wanted[id.Manifest.Encoded()] = true
	}
	for _, dir := range []string{"trees/ingest", "trees/sha256"} {
		entries, err := os.ReadDir(filepath.Join(c.root, dir))
		if err != nil {
			return freed, err
		}
		for _, e := range entries {
			if manifest, _, _ := strings.Cut(e.Name(), "."); dir == "trees/sha256" && wanted[manifest] {
				continue
			}
			path := filepath.Join(c.root, dir, e.Name())
			freed += sizeOf(path)
			if err := remove(path); err != nil {
				return freed, err
			}
		}
	}
	return freed, nil
}
