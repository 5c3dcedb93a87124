package run

import (
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"
)

// ErrNoBase is a container of which nobody knows any more what it began with: its
// files were copied for it, or are a directory of the user's.
var ErrNoBase = errors.New("the container's changes are not kept apart from its image")

// Written is how many bytes the container's own files have, those that it has
// written or changed. ErrNoBase.
func (c *Container) Written() (int64, error) {
	if !c.Root.overlaid() {
		return 0, ErrNoBase
	}
	var bytes int64
	seen := map[uint64]bool{} // of files with several names
	err := filepath.WalkDir(c.root().Upper, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && !d.Type().IsRegular() {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a running container removes files as we look
		}
		if err != nil {
			return err
		}
		if st := info.Sys().(*syscall.Stat_t); st.Nlink == 1 || !seen[st.Ino] {
			seen[st.Ino] = true
			bytes += info.Size()
		}
		return nil
	})
	return bytes, err
}
