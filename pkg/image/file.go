package image

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"peel/pkg/layers/changeset"
	"peel/pkg/store"
)

// ErrExists: there is something at the path already.
var ErrExists = errors.New("exists")

// stagingPrefix is that of package unpack, which removes what killed processes have
// left under such a name.
const stagingPrefix = ".peel-"

// WriteFile makes path a file with all of the image in it, as Cache.Write writes it,
// for its owner alone. The layers' tars lie beside it meanwhile. If path exists, the
// error is ErrExists, unless replace. When the error is not nil, path is as it was,
// and nothing is left beside it.
func WriteFile(ctx context.Context, src changeset.Blobs, img *store.Image, path string, replace bool, o Options) (err error) {
	if _, err := os.Lstat(path); err == nil && !replace {
		return &fs.PathError{Op: "write", Path: path, Err: ErrExists}
	}
	dir, lock, err := stagingBeside(path)
	if err != nil {
		return err
	}
	defer func() {
		// The lock goes last: it is what keeps others from removing the directory.
		err = errors.Join(err, os.RemoveAll(dir), lock.Close())
	}()
	c, err := Open(dir)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, "image"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = c.Write(ctx, f, src, img, o)
	if err == nil && o.Sync {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	flags := uint(unix.RENAME_NOREPLACE)
	if replace {
		flags = 0
	}
	if err := unix.Renameat2(unix.AT_FDCWD, f.Name(), unix.AT_FDCWD, path, flags); err != nil {
		if errors.Is(err, unix.EEXIST) {
			err = ErrExists
		}
		return &fs.PathError{Op: "write", Path: path, Err: err}
	}
	return nil
}

func stagingBeside(path string) (dir string, lock *os.File, err error) {
	for range 100 {
		dir = filepath.Join(filepath.Dir(path), stagingPrefix+strings.ToLower(rand.Text()[:10]))
		if lock, err = tryLockDir(dir); lock != nil || err != nil {
			break
		}
	}
	switch {
	case err != nil:
		return "", nil, fmt.Errorf("staging directory in %s: %w", filepath.Dir(path), err)
	case lock == nil:
		return "", nil, fmt.Errorf("staging directory in %s: %w", filepath.Dir(path), fs.ErrExist)
	}
	return dir, lock, nil
}
