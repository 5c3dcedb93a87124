// Package erofs writes file systems in the on-disk format of EROFS, the kernel's
// Enhanced Read-Only File System (Documentation/filesystems/erofs.rst). It knows
// nothing of images, layers or tars.
//
// A file system is a tree of Inodes. It is written in one of two kinds:
//
//   - An index (WriteIndex) holds names and attributes. Each file's bytes lie
//     elsewhere, in one run of a Device, which is a plain file such as a tar: tar
//     puts every file at a multiple of 512 bytes, and so blocks of 512 bytes can
//     point there. Nothing is copied, and the index of a thousand files is some
//     hundred kilobytes. The kernel mounts it with one device= option a Device.
//   - An image (WriteImage) has the bytes inside and needs nothing else.
//
// The same tree gives the same bytes, always.
//
// # On-disk details
//
// All numbers are little-endian; positions are counted in blocks, of 512 to 4096
// bytes, or for inodes in slots of 32 bytes. This is the order in which the
// package lays things out, which the format leaves free:
//
//	0       nothing (room for a boot sector)
//	1024    superblock, 128 bytes
//	1152    device table, a slot of 128 bytes for each Device
//	…       shared extended attributes
//	…       inodes, each followed by what belongs to it:
//	          | inode, 64 bytes | attributes | tail, or chunk indexes |
//	…       blocks: directories, long symlinks and, in an image, files
//
// An inode's number, its nid, is its position in slots. The superblock has 16 bits
// for that of the root, which therefore comes first.
//
// # Inode data layouts
//
// The bytes of an inode (a file, the names in a directory, a symlink's target) lie
// in one of these ways:
//
//   - EROFS_INODE_FLAT_PLAIN: in whole blocks, one behind the other.
//   - EROFS_INODE_FLAT_INLINE: the same, except that the last, partial block, the
//     tail, follows the inode. It may not reach into another block, so an inode
//     whose tail does not fit is moved to the next one. Most directories and
//     nearly all symlinks are nothing but a tail.
//   - EROFS_INODE_CHUNK_BASED: in chunks of 2^n blocks, each found by an 8-byte
//     index that names a device and a block on it, or says that it is a hole. The
//     last chunk ends where the file does. So a file that lies in one run is one
//     chunk, whatever its size.
//
// # Directories
//
// A directory is a row of blocks, each complete in itself: 12-byte entries (nid,
// place of the name, type), then the names. Names are sorted by their bytes, over
// all blocks, "." and ".." among them: the kernel looks up a name by two binary
// searches.
//
// # Extended attributes
//
// An inode's attributes stand behind it: a header, the numbers of shared ones, and
// the others in full. A name's prefix ("user.", "security.") is one byte. What
// several inodes have in common stands in the shared area once.
package erofs

import (
	"errors"
	"fmt"
	"io"
)

// Inode is a file of any type. Its names are elsewhere: two Dirents with the same
// *Inode are hard links. Link counts are found in writing.
//
// An Inode may be written by one call at a time.
type Inode struct {
	Mode     uint32 // type and permissions, as in stat(2)
	UID, GID uint32
	Sec      int64 // time of the last modification, the only one that EROFS keeps
	Nsec     uint32

	// Of a regular file: Size bytes, at Offset of device number Device, which counts
	// from 1 as the devices are given. Offset is a multiple of 512.
	// What an empty file says of its place is ignored.
	Size   int64
	Device int
	Offset int64
	// Sparse says that Data lists the only regions of the file that are not holes,
	// in order. WriteImage leaves holes out.
	Sparse bool
	Data   []Region

	Target  string   // of a symlink
	Rdev    Rdev     // of a character or block device
	Entries []Dirent // of a directory, in any order, without "." and ".."
	Xattrs  []Xattr

	place
}

// Dirent is a name in a directory.
type Dirent struct {
	Name  string
	Inode *Inode
}

// Region is a run of a file's bytes.
type Region struct {
	Off, Len int64
}

// Rdev is what a device node stands for. Major has 12 bits, Minor 20.
type Rdev struct {
	Major, Minor uint32
}

// Xattr is an extended attribute, Name with its namespace. The value of
// system.posix_acl_access and _default is in the form of getxattr(2).
type Xattr struct {
	Name, Value string
}

// Device is a file that holds the bytes of others.
type Device struct {
	// Size in bytes. For an index it is a multiple of 512: the kernel reads whole
	// blocks, and fails where the file ends within one.
	Size int64
	// Tag says what it is, in up to 64 bytes, for people and tools. The kernel
	// does not look at it.
	Tag string
	// Bytes is where WriteImage reads. WriteIndex needs none.
	Bytes io.ReaderAt
}

// Options is what the tree does not say. The zero value is right.
type Options struct {
	// UUID should be unique: overlayfs does without some features on top of a file
	// system that has none.
	UUID [16]byte
	// Label is the volume name, up to 16 bytes.
	Label string
}

// The namespaces of extended attributes that the format knows, with the numbers
// it has for them.
var xattrPrefixes = []struct {
	index  byte
	prefix string
}{
	{1, "user."},
	{2, "system.posix_acl_access"},
	{3, "system.posix_acl_default"},
	{4, "trusted."},
	{6, "security."},
}

// What the format, or the kernel that is to read it, cannot have.
var (
	ErrName    = errors.New("not a name that a directory can have")
	ErrTwice   = errors.New("the name is there twice")
	ErrLoop    = errors.New("a directory with two names")
	ErrType    = errors.New("not a type of file")
	ErrTarget  = errors.New("not a target that a symlink can have")
	ErrRange   = errors.New("a number is out of the range of the format")
	ErrPlace   = errors.New("the file's bytes are not within its device")
	ErrXattr   = errors.New("not an extended attribute that EROFS can have")
	ErrTooBig  = errors.New("too big for the format")
	ErrRoot    = errors.New("the root is not a directory")
	ErrDevices = errors.New("too many devices")
)

// Error says what in a tree cannot be written.
type Error struct {
	Path string // "/" is the root
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("erofs: %q: %v", e.Path, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// WriteIndex writes the tree under root as an index of 512-byte blocks, whose
// files lie on devices. It returns how many bytes it has written, a multiple of
// 512. Linux can mount it since 6.4 from a loop device, since 6.12 from a file;
// there it must not be tried before 6.13 (CVE-2024-56750).
func WriteIndex(w io.Writer, root *Inode, devices []Device, o Options) (int64, error) {
	return write(w, &layout{blockBits: 9, root: root, devices: devices, options: o})
}

// WriteImage writes the tree under root as an image of 4096-byte blocks, with the
// bytes of its files read from devices. It returns how many bytes it has written,
// a multiple of 4096. Linux can mount it since 5.4, with holes since 5.15.
func WriteImage(w io.Writer, root *Inode, devices []Device, o Options) (int64, error) {
	return write(w, &layout{blockBits: 12, root: root, devices: devices, options: o, embed: true})
}
