// Package image keeps images ready to be mounted, without a file for each of
// theirs.
//
// A layer is decompressed into one file, which is its tar, byte for byte. When the
// tars of all layers are there, a small EROFS file system, the index, says which
// names and attributes the merged image has, and where in the tars its files'
// bytes lie. The kernel mounts the index with the tars as its devices:
//
//	ROOT/layers/sha256/DIFFID/layer.tar   filled up with zeros to a whole block
//	ROOT/layers/sha256/DIFFID/sparse      files that have holes, if the layer has any
//	ROOT/layers/sha256/DIFFID/size        a link that leads to the sizes of both
//	ROOT/erofs/sha256/MANIFEST/index      the index of an image
//	ROOT/erofs/sha256/MANIFEST/size
//	ROOT/layers/ingest/DIFFID/            a layer on its way, locked (flock)
//	ROOT/layers/lock                      held by all who use any of this
//
// Where no file system can be mounted by who asks, images are unpacked instead, once
// for all containers of theirs:
//
//	ROOT/trees/sha256/MANIFEST[.OWNERS]/rootfs
//	ROOT/trees/ingest/MANIFEST[.OWNERS]/  one on its way, locked
//
// Tars are shared between images and can be checked against their DiffIDs at any
// time. A directory appears by a rename, when its content has been found right.
// Nothing is synced: what a power cut leaves incomplete does not have the size that
// size tells, and is made again. (A link's target is metadata, which a journal keeps
// together with the rename; a file's bytes are not.)
package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"peel/pkg/store"
)

// ErrNotFound: the image has not been prepared.
var ErrNotFound = errors.New("not prepared")

// Cache is a directory of prepared images. It may be used by several goroutines,
// and by several processes at once.
type Cache struct{ root string }

// Open opens the cache under root and makes what is missing of it, for its owner
// alone: layers hold set-id programs that no other user may reach.
func Open(root string) (*Cache, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{"layers/sha256", "layers/ingest", "erofs/sha256", "trees/sha256", "trees/ingest"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			return nil, err
		}
	}
	return &Cache{root}, nil
}

// The digests must have been checked: their hexadecimal becomes a file name.
func (c *Cache) layerDir(diffID digest.Digest) string {
	return filepath.Join(c.root, "layers/sha256", diffID.Encoded())
}

func (c *Cache) ingestDir(diffID digest.Digest) string {
	return filepath.Join(c.root, "layers/ingest", diffID.Encoded())
}

func (c *Cache) indexDir(manifest digest.Digest) string {
	return filepath.Join(c.root, "erofs/sha256", manifest.Encoded())
}

// Prepared is an image that is ready. It keeps what it consists of from being
// pruned until it is closed; a mounted image stays whole after that too.
type Prepared struct {
	Index   string   // the path of the EROFS file system
	Devices []string // the paths of its devices, in their order

	key  string
	lock *os.File
}

// Key is the same for those whose mounts show the same, as they are of the same
// files. It may change when the image is prepared again.
func (p *Prepared) Key() string { return p.key }

// Close lets go of the image.
func (p *Prepared) Close() error { return p.lock.Close() }

// ID is what a prepared image is known by: enough to find it when the store has
// forgotten the image.
type ID struct {
	Manifest digest.Digest
	DiffIDs  []digest.Digest
}

// IDOf returns an image's ID.
func IDOf(img *store.Image) ID { return ID{img.Descriptor.Digest, img.Config.RootFS.DiffIDs} }

// Find returns an image that has been prepared, else ErrNotFound.
func (c *Cache) Find(id ID) (*Prepared, error) {
	lock, err := c.share()
	if err != nil {
		return nil, err
	}
	p, err := c.find(id)
	if err != nil {
		lock.Close()
		return nil, err
	}
	p.lock = lock
	return p, nil
}

func (c *Cache) find(id ID) (*Prepared, error) {
	dir := c.indexDir(id.Manifest)
	sizes, err := readSizes(dir, indexVersion)
	if err != nil {
		return nil, err
	}
	p := &Prepared{Index: filepath.Join(dir, "index")}
	var st unix.Stat_t
	if len(sizes) != 1 || unix.Lstat(p.Index, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != sizes[0] {
		return nil, ErrNotFound
	}
	// Whoever has it mounted keeps its inode from becoming another file's.
	p.key = fmt.Sprintf("%s-%d-%d", id.Manifest.Encoded(), st.Dev, st.Ino)
	var sparse []string
	for _, d := range id.DiffIDs {
		l, err := c.layer(d)
		if err != nil {
			return nil, err
		}
		p.Devices = append(p.Devices, l.tar)
		if l.sparseSize > 0 {
			sparse = append(sparse, l.sparse)
		}
	}
	p.Devices = append(p.Devices, sparse...)
	return p, nil
}

// files is a layer that is ready.
type files struct {
	tar, sparse string
	tarSize     int64 // of the layer's tar, without what fills up the last block
	sparseSize  int64 // 0 where the layer has no such files
}

func (c *Cache) layer(diffID digest.Digest) (*files, error) {
	dir := c.layerDir(diffID)
	sizes, err := readSizes(dir, layerVersion)
	if err != nil {
		return nil, err
	}
	l := &files{tar: filepath.Join(dir, "layer.tar"), sparse: filepath.Join(dir, "sparse")}
	if len(sizes) != 2 {
		return nil, ErrNotFound
	}
	l.tarSize, l.sparseSize = sizes[0], sizes[1]
	if !hasSize(l.tar, wholeBlocks(l.tarSize)) || l.sparseSize > 0 && !hasSize(l.sparse, l.sparseSize) {
		return nil, ErrNotFound
	}
	return l, nil
}

// Versions of what is cached. Another one is made again.
const (
	layerVersion = "layer-1"
	indexVersion = "index-1"
)

// writeSizes makes the link that says how long the files in dir are.
func writeSizes(dir, version string, sizes ...int64) error {
	for _, n := range sizes {
		version += ":" + strconv.FormatInt(n, 10)
	}
	path := filepath.Join(dir, "size")
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(version, path)
}

// readSizes is the opposite. ErrNotFound also means that it is not of our version.
func readSizes(dir, version string) ([]int64, error) {
	text, err := os.Readlink(filepath.Join(dir, "size"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	got, list, _ := strings.Cut(text, ":")
	if got != version {
		return nil, ErrNotFound
	}
	var sizes []int64
	for n := range strings.SplitSeq(list, ":") {
		size, err := strconv.ParseInt(n, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %q tells no sizes", dir, text)
		}
		sizes = append(sizes, size)
	}
	return sizes, nil
}

func hasSize(path string, size int64) bool {
	fi, err := os.Lstat(path)
	return err == nil && fi.Mode().IsRegular() && fi.Size() == size
}

const blockSize = 512

func wholeBlocks(n int64) int64 { return (n + blockSize - 1) &^ (blockSize - 1) }
