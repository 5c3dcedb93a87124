package layout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/internal/flock"
)

// Publish puts the image whose manifest d describes into the layout, under a tag
// that is ValidTag. All of its blobs have been added, or are there: see Has.
func (s *Stage) Publish(ctx context.Context, d ocispec.Descriptor, tag string) error {
	if err := s.finish(d, tag); err != nil {
		return err
	}
	if filepath.Dir(s.dir) != s.target { // it was not there
		err := renameNew(s.tree(), s.target)
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		// By now it is, on the same file system.
		if err := checkTarget(s.target); err != nil {
			return err
		}
	}
	return s.join(ctx, d, tag)
}

// finish makes a layout of the staged blobs.
func (s *Stage) finish(d ocispec.Descriptor, tag string) error {
	index := emptyIndex()
	tagged(index, d, tag)
	if err := writeFile(filepath.Join(s.tree(), ocispec.ImageLayoutFile), marker()); err != nil {
		return err
	}
	return writeJSON(filepath.Join(s.tree(), ocispec.ImageIndexFile), index)
}

// join moves what is staged into a layout that is there.
func (s *Stage) join(ctx context.Context, d ocispec.Descriptor, tag string) error {
	lock, err := wait(ctx, s.target)
	if err != nil {
		return err
	}
	defer lock.Close()
	for _, dir := range []string{filepath.Dir(blobsIn(s.target)), blobsIn(s.target)} {
		if err := os.Mkdir(dir, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	blobs, err := os.ReadDir(blobsIn(s.tree()))
	if err != nil {
		return err
	}
	for _, b := range blobs {
		if err := os.Rename(s.staged(b.Name()), filepath.Join(blobsIn(s.target), b.Name())); err != nil {
			return err
		}
	}
	index, err := readIndex(s.target)
	if err != nil {
		return err
	}
	tagged(index, d, tag)
	if err := writeJSON(filepath.Join(s.tree(), ocispec.ImageIndexFile), index); err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(s.target, ocispec.ImageLayoutFile)); errors.Is(err, fs.ErrNotExist) {
		if err := os.Rename(filepath.Join(s.tree(), ocispec.ImageLayoutFile), filepath.Join(s.target, ocispec.ImageLayoutFile)); err != nil {
			return err
		}
	}
	return os.Rename(filepath.Join(s.tree(), ocispec.ImageIndexFile), filepath.Join(s.target, ocispec.ImageIndexFile))
}

// readIndex reads the index of a layout; one that has none yet is empty.
func readIndex(layout string) (*ocispec.Index, error) {
	path := filepath.Join(layout, ocispec.ImageIndexFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return emptyIndex(), nil
	}
	if err != nil {
		return nil, err
	}
	index := &ocispec.Index{}
	if err := json.Unmarshal(b, index); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return index, nil
}

// wait locks a layout against other writers of this kind.
func wait(ctx context.Context, layout string) (*os.File, error) {
	dir, err := os.Open(layout)
	if err != nil {
		return nil, err
	}
	if err := flock.Lock(ctx, dir); err != nil {
		dir.Close()
		return nil, err
	}
	return dir, nil
}

// renameNew renames where nothing is; fs.ErrExist otherwise.
func renameNew(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		// A file system that does not know the flag (renameat2(2)). What is there
		// makes rename(2) fail, too, as it is no empty directory.
		err = unix.Rename(from, to)
	}
	if errors.Is(err, unix.ENOTEMPTY) {
		err = unix.EEXIST
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

func writeJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeFile(path, b)
}

// writeFile makes a file with the mode of a layout's, whatever the umask.
func writeFile(path string, b []byte) error {
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return err
	}
	return os.Chmod(path, blobMode)
}
