package run

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"

	"peel/internal/rawfork"
	"peel/pkg/run/internal/changes"
	"peel/pkg/run/internal/mountfd"
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

// Change is a file that a container has added, changed or deleted.
type Change = changes.Change

// Changes lists what the container has made of its image, sorted by path, while it
// runs or not. Of a deleted directory, what was in it is not listed. ErrNoBase.
func (c *Container) Changes(ctx context.Context) ([]Change, error) {
	if !c.Root.overlaid() {
		return nil, ErrNoBase
	}
	spec, err := c.Spec()
	if err != nil {
		return nil, err
	}
	hidden := map[string]bool{}
	for _, m := range spec.Mounts {
		if !c.isBind(m) { // what a user has mounted, he finds
			hidden[path.Clean(m.Destination)] = true
		}
	}
	upper, err := os.Open(c.root().Upper)
	if err != nil {
		return nil, err
	}
	defer upper.Close()
	lower, err := c.openLower()
	if err != nil {
		return nil, err
	}
	defer lower.Close()
	return changes.Overlay(ctx, upper, lower, hidden)
}

// openLower opens the root of what the container's changes lie over.
func (c *Container) openLower() (*os.File, error) {
	tree, err := c.openTree()
	if err != nil {
		return nil, err
	}
	if tree != nil {
		defer tree.Close()
		return tree.Dup()
	}
	if len(c.Root.Lower) == 1 {
		return os.Open(c.Root.Lower[0])
	}
	var root *os.File
	err = rawfork.OnSpentThread(func() error {
		fd, err := mountfd.NewOverlay(mountfd.Overlay{Lower: c.Root.Lower})
		if err != nil {
			return &os.PathError{Op: "mount overlay", Path: c.Root.Lower[0], Err: err}
		}
		root = os.NewFile(uintptr(fd), c.Root.Lower[0])
		return nil
	})
	return root, err
}
