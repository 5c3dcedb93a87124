package image

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"peel/pkg/image/merge"
	"peel/pkg/layers/changeset"
	"peel/pkg/layers/tar"
	"peel/pkg/store"
)

// ErrInUse: somebody prepares images or has them open.
var ErrInUse = errors.New("prepared images are in use")

// Prune removes what none of the images needs that keep names, and what killed
// processes have left, and returns how many bytes that were. While anybody uses the
// cache it does nothing and returns ErrInUse. keep is called when nobody does, so
// that what was prepared just now has its user. Mounted images stay whole. Unpacked
// ones are removed by remove, as it may take other rights than this process has.
func (c *Cache) Prune(keep func() ([]ID, error), remove func(path string) error) (freed int64, err error) {
	f, err := c.exclude()
	if err != nil {
		return 0, err
	}
	defer f.Close()
	ids, err := keep()
	if err != nil {
		return 0, err
	}
	wanted := map[string]bool{
		filepath.Join(c.root, "layers/sha256"): true,
		filepath.Join(c.root, "layers/ingest"): true,
		filepath.Join(c.root, "layers/lock"):   true,
		filepath.Join(c.root, "erofs/sha256"):  true,
	}
	for _, id := range ids {
		wanted[c.indexDir(id.Manifest)] = true
		for _, d := range id.DiffIDs {
			wanted[c.layerDir(d)] = true
		}
	}
	// Indexes first: one without its layers is useless, layers without it are not.
	for _, dir := range []string{"erofs", "erofs/sha256", "layers", "layers/ingest", "layers/sha256"} {
		entries, err := os.ReadDir(filepath.Join(c.root, dir))
		if err != nil {
			return freed, err
		}
		for _, e := range entries {
			path := filepath.Join(c.root, dir, e.Name())
			if wanted[path] {
				continue
			}
			freed += sizeOf(path)
			if err := os.RemoveAll(path); err != nil {
				return freed, err
			}
		}
	}
	trees, err := c.pruneTrees(ids, remove)
	return freed + trees, err
}

// sizeOf is what the files of a directory take on disk.
func sizeOf(dir string) (n int64) {
	seen := map[uint64]bool{} // of files with several names
	_ = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil && unix.Lstat(path, &st) == nil && !seen[st.Ino] {
			seen[st.Ino] = st.Nlink > 1
			n += st.Blocks * 512
		}
		return nil // what cannot be read is not counted
	})
	return n
}

// DropDamaged checks the layers of an image against their DiffIDs, and removes
// those that differ, so that Prepare fetches them again; the index goes with them,
// as nothing tells whether it is right. It reads all of them.
func (c *Cache) DropDamaged(ctx context.Context, img *store.Image) (dropped []digest.Digest, err error) {
	lock, err := c.share()
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	for _, d := range img.Config.RootFS.DiffIDs {
		ok, err := c.intact(ctx, d)
		if err != nil {
			return dropped, err
		}
		if ok {
			continue
		}
		if err := os.RemoveAll(c.layerDir(d)); err != nil {
			return dropped, err
		}
		dropped = append(dropped, d)
	}
	return dropped, os.RemoveAll(c.indexDir(img.Descriptor.Digest))
}

func (c *Cache) intact(ctx context.Context, diffID digest.Digest) (bool, error) {
	l, err := c.layer(diffID)
	if errors.Is(err, ErrNotFound) {
		return true, nil // not there, or as good as
	}
	if err != nil {
		return false, err
	}
	f, err := os.Open(l.tar)
	if err != nil {
		return false, err
	}
	defer f.Close()
	v := diffID.Verifier()
	_, err = io.CopyBuffer(v, io.NewSectionReader(&cancellable{ctx, f}, 0, l.tarSize), make([]byte, 256<<10))
	if err != nil || !v.Verified() {
		return false, err
	}
	if l.sparseSize == 0 {
		return true, nil
	}
	sparse, err := os.Open(l.sparse)
	if err != nil {
		return false, err
	}
	defer sparse.Close()
	s := &scanner{f: f, size: l.tarSize, compare: sparse}
	s.Reader = tar.NewReader(s.source(), tar.Limits{})
	defer s.Close()
	j := &merge.Job{Limits: changeset.Limits{}.WithDefaults(), Losses: &changeset.Losses{}}
	_, err = merge.Read(ctx, j, s, 0, l.tarSize, s)
	if errors.Is(err, errDiffers) {
		return false, nil
	}
	return err == nil, err
}
