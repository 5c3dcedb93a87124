package unpack

import (
	"errors"
	"fmt"

	"peel/pkg/layers/changeset"
)

var (
	// ErrNotEmpty: DIR exists and is not an empty directory, and Options.Force
	// does not say to replace it.
	ErrNotEmpty = errors.New("exists and is not empty")
	// ErrNotDirectory: DIR exists and is something else than a directory.
	ErrNotDirectory = errors.New("exists and is not a directory")
	// ErrMountPoint: DIR is where a file system is mounted, so nothing can be
	// renamed to it.
	ErrMountPoint = errors.New("is a mount point")

	// What no layer can say, whatever it is applied to.
	ErrNoTarget        = changeset.ErrNoTarget
	ErrLinkToDirectory = changeset.ErrLinkToDirectory
	ErrRoot            = changeset.ErrRoot
	ErrWhiteout        = changeset.ErrWhiteout
	ErrType            = changeset.ErrType
)

// What Image needs and what it says, in the words of all who apply layers.
type (
	Blobs      = changeset.Blobs
	Limits     = changeset.Limits
	LayerError = changeset.LayerError
	EntryError = changeset.EntryError
	LimitError = changeset.LimitError
)

// ParentError reports that the directory which DIR is to lie in is not there.
type ParentError struct {
	Path string
	Err  error
}

func (e *ParentError) Error() string { return e.Path + ": " + e.Err.Error() }
func (e *ParentError) Unwrap() error { return e.Err }

// SpaceError reports, before anything is written, that the file system of DIR
// has less room than the image needs at the very least.
type SpaceError struct {
	Need, Free int64 // bytes
}

func (e *SpaceError) Error() string {
	return fmt.Sprintf("the image needs more than %d bytes, the file system has %d free", e.Need, e.Free)
}
