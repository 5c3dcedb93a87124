// Package tar decodes tar headers in a stream of chunks.
//
// A tar stream is a row of 512-byte blocks: for each entry a header block, then
// the file's bytes, filled up to a whole block. Where a field of the header is
// too small, an entry of its own comes before: a PAX extended header (POSIX.1
// pax, "pax Extended Header"), or a GNU long name. Next reads all of them and
// returns the one entry that they describe:
//
//	| x: path=… | body | header | file's bytes … | pad | header | …
//	                     ^ Offset ^ BodyOffset
//
// Nothing is copied but names: numbers are read where they lie, and a file's
// bytes are lent out as pieces of the chunks they arrived in, so that a writer
// in another goroutine can keep them by reference. The Reader allocates nothing
// per entry.
//
// # Agreement with archive/tar
//
// Tools that apply image layers read them with the archive/tar of Go's standard
// library, so this package accepts what that one accepts and reads the same from
// it, except where it says otherwise on purpose:
//
//   - Limits bounds names, extended headers, extended attributes, sparse maps
//     and the whole, mostly tighter than archive/tar does.
//   - Records of a global header (g) apply to all entries behind it, as POSIX
//     says; archive/tar hands the header out and applies nothing. Those that can
//     only be meant for one file (path, linkpath, size, GNU.sparse.*) are an
//     error, because readers that take them and readers that do not would see
//     two different archives in the same bytes. So is a global header between an
//     entry and its own extended headers.
//   - LIBARCHIVE.xattr records are read too; of two spellings of one attribute
//     SCHILY.xattr wins.
//   - Types '7' (contiguous) and 'S' (GNU sparse) are reported as TypeReg, which
//     is what they are to a file system, and links, devices, directories and
//     FIFOs always with Size 0.
//   - A sparse file whose map does not match the bytes stored for it fails in
//     Next, not only when it is read.
//   - User and group names, ctime and other records are not reported; fields that
//     mean nothing for an entry's type are not checked.
//
// The end of the archive is two zero blocks, or the end of the stream where an
// entry could begin. What lies behind it is left to the caller.
package tar

import (
	"time"

	"peel/pkg/layers"
)

// Source gives a tar stream, chunk by chunk, each with one reference that goes
// to the Reader; io.EOF ends it. *layers.Reader is one.
type Source interface {
	Next() (*layers.Chunk, error)
}

// The types of entries that mean something to a file system. A Header may carry
// any other byte that stood in the archive.
const (
	TypeReg     byte = '0'
	TypeLink    byte = '1' // hard link: Linkname is the path of another entry
	TypeSymlink byte = '2'
	TypeChar    byte = '3'
	TypeBlock   byte = '4'
	TypeDir     byte = '5'
	TypeFifo    byte = '6'
)

// Header is one entry. It belongs to the Reader and all its slices are good until
// the next call of Next; whoever needs them longer copies them.
type Header struct {
	Type byte

	// Name and Linkname are bytes as the archive has them, of no promised
	// encoding and not cleaned: they may be absolute, hold "..", end in a slash
	// or be empty. They hold no NUL.
	Name, Linkname []byte

	Mode     uint32 // permission, set-id and sticky bits: 07777
	UID, GID int64  // as they stand there, which may be out of a kernel's range

	// Size is the file's size, holes included: the end of the last byte that it
	// has. Never negative.
	Size int64

	ModTime    time.Time
	AccessTime time.Time // zero where the archive has none

	Major, Minor int64 // of TypeChar and TypeBlock, else 0

	Xattrs []Xattr

	// Sparse says that Extents lists the only regions of the file that are
	// stored, in order, without overlap and none empty. All else is a hole.
	Sparse  bool
	Extents []Extent

	// Offset is where in the stream the entry's own header block begins;
	// BodyOffset is where its bytes do, the extents of a sparse file one right
	// behind the other.
	Offset, BodyOffset int64
}

// Xattr is one extended attribute of an entry, Name with its namespace.
type Xattr struct {
	Name, Value []byte
}

// Extent is a region of a sparse file that holds data.
type Extent struct {
	Off, Len int64
}

// Piece is a run of a file's bytes.
type Piece struct {
	Off   int64 // where in the file they belong
	Bytes []byte
	Chunk *layers.Chunk // what Bytes lie in; Retain it to keep them
}
