package changeset

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/opencontainers/go-digest"
)

var (
	// ErrNoTarget: a hard link to a name that neither its layer has, before it,
	// nor any layer below.
	ErrNoTarget = errors.New("hard link to nothing")
	// ErrLinkToDirectory: a hard link to a directory, which no file system allows.
	ErrLinkToDirectory = errors.New("hard link to a directory")
	// ErrRoot: the root of the image as something else than a directory
	// (CVE-2021-29136).
	ErrRoot = errors.New("the root can only be a directory")
	// ErrWhiteout: a whiteout that names nothing, or "." or "..".
	ErrWhiteout = errors.New("whiteout of no name")
	// ErrType: an entry of a type that no file system object has.
	ErrType = errors.New("unknown entry type")
)

// LayerError says which layer of an image something went wrong with.
type LayerError struct {
	Index  int           // from the bottom, 0 is the first
	Digest digest.Digest // of the blob
	DiffID digest.Digest // of the tar, as the config has it
	Err    error
}

func (e *LayerError) Error() string { return fmt.Sprintf("layer %s: %v", e.Digest, e.Err) }
func (e *LayerError) Unwrap() error { return e.Err }

// EntryError says which entry of a layer something went wrong with, and in doing
// what.
type EntryError struct {
	Name string // as the layer spells it, any bytes
	Op   string // such as "create", "write", "chown"; may be empty
	Err  error
}

func (e *EntryError) Error() string {
	s := "entry " + Printable(e.Name) + ": "
	if e.Op != "" {
		s += e.Op + ": "
	}
	return s + e.Err.Error()
}

func (e *EntryError) Unwrap() error { return e.Err }

// Printable quotes a name that a terminal should not be shown as it is.
func Printable(name string) string {
	if q := strconv.Quote(name); q != `"`+name+`"` || name == "" {
		return q
	}
	return name
}

// LimitError reports that an image goes beyond one of the Limits. It comes in a
// LayerError and, where one entry is at fault, an EntryError.
type LimitError struct {
	What       string // "entries", "bytes of a file", ...
	Got, Limit int64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%d %s, the limit is %d", e.Got, e.What, e.Limit)
}
