// Package layers turns a layer's blob into its tar stream, verified.
//
// A layer travels as a blob: a tar archive, usually compressed (image-spec
// layer.md). Its manifest names the blob by the digest of the compressed
// bytes; the image's config names the tar by the digest of the uncompressed
// ones, the DiffID. Whoever delivers the blob checks the first; Reader checks
// the second, over every byte up to the end of the blob.
package layers

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/pkg/layers/gzip"
)

// Compression is how a layer's tar is packed in its blob.
type Compression string

const (
	None Compression = "none"
	Gzip Compression = "gzip"
	Zstd Compression = "zstd"
)

// maxWindow bounds what a zstd frame may make the decoder allocate. The zstd
// tool decodes up to 8 MiB unasked (RFC 8878, 3.1.1.1.2 recommends the same);
// --ultra levels, which no image pusher uses by default, reach 128 MiB.
const maxWindow = 128 << 20

// MismatchError reports that a layer's tar is not the one that the config names.
type MismatchError struct {
	Want, Got digest.Digest
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("DiffID is %s, the config says %s", e.Got, e.Want)
}

// ErrUnknownMediaType is returned by Open for a blob that is not a layer peel
// can read, such as an attestation or an encrypted layer.
var ErrUnknownMediaType = errors.New("not a layer media type")

// Reader is the tar stream of one layer. Read it by chunks (Next) or by bytes
// (Read), then call Finish. A Reader is for one goroutine.
type Reader struct {
	// Declared is the compression that the media type promises, Actual the one
	// that the blob's first bytes show. Where they differ, Actual was used.
	Declared, Actual Compression

	src    io.Reader
	close  func()
	hash   hash.Hash
	size   int64
	cur    *Chunk // what Read has not handed out yet
	off    int
	failed error
}

// Open starts reading a layer. The media type must be one of image-spec's or
// docker's for layers (else ErrUnknownMediaType); the blob's magic bytes decide
// how it is decompressed. The caller keeps the blob and closes it after Close.
func Open(mediaType string, blob io.Reader) (*Reader, error) {
	declared, err := compressionOf(mediaType)
	if err != nil {
		return nil, err
	}
	br := bufio.NewReaderSize(blob, 64<<10)
	head, err := br.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	r := &Reader{Declared: declared, Actual: sniff(head), hash: digest.SHA256.Hash()}
	switch r.Actual {
	case Gzip:
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, err
		}
		r.src, r.close = z, func() { z.Close() }
	case Zstd:
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		r.src, r.close = z, z.Close
	default:
		r.src, r.close = br, func() {}
	}
	return r, nil
}

// compressionOf reads the suffix of a layer media type (image-spec
// media-types.md; docker's schema 2 has its own two names).
func compressionOf(mediaType string) (Compression, error) {
	switch mediaType {
	case ocispec.MediaTypeImageLayerGzip,
		ocispec.MediaTypeImageLayerNonDistributableGzip, //nolint:staticcheck // old images carry it
		"application/vnd.docker.image.rootfs.diff.tar.gzip",
		"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip":
		return Gzip, nil
	case ocispec.MediaTypeImageLayerZstd,
		ocispec.MediaTypeImageLayerNonDistributableZstd: //nolint:staticcheck // old images carry it
		return Zstd, nil
	case ocispec.MediaTypeImageLayer,
		ocispec.MediaTypeImageLayerNonDistributable, //nolint:staticcheck // old images carry it
		"application/vnd.docker.image.rootfs.diff.tar":
		return None, nil
	}
	if strings.HasPrefix(mediaType, "application/vnd.docker.image.rootfs.diff.tar.zstd") {
		return Zstd, nil
	}
	return "", fmt.Errorf("%w: %q", ErrUnknownMediaType, mediaType)
}

func sniff(head []byte) Compression {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return Gzip
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}),
		len(head) == 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:], []byte{0x2a, 0x4d, 0x18}): // a skippable frame
		return Zstd
	}
	return None
}

// Next returns the next run of the tar stream and a reference to it that the
// caller must Release. At the end of the blob it returns io.EOF.
func (r *Reader) Next() (*Chunk, error) {
	if r.failed != nil {
		return nil, r.failed
	}
	c := newChunk()
	n, err := io.ReadFull(r.src, c.buf)
	if n == 0 || err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		c.Release()
		if err == nil || errors.Is(err, io.EOF) {
			err = io.EOF
		}
		r.failed = err
		return nil, err
	}
	c.Bytes = c.buf[:n]
	r.hash.Write(c.Bytes)
	r.size += int64(n)
	return c, nil
}

// Read reads the tar stream by bytes.
func (r *Reader) Read(p []byte) (int, error) {
	for r.cur == nil || r.off == len(r.cur.Bytes) {
		if r.cur != nil {
			r.cur.Release()
			r.cur = nil
		}
		c, err := r.Next()
		if err != nil {
			return 0, err
		}
		r.cur, r.off = c, 0
	}
	n := copy(p, r.cur.Bytes[r.off:])
	r.off += n
	return n, nil
}

// Size is the number of tar bytes read so far; after Finish, the layer's size.
func (r *Reader) Size() int64 { return r.size }

// Finish reads what is left of the blob, so that its every byte is checked, and
// compares the tar's digest with the DiffID: *MismatchError where they differ.
func (r *Reader) Finish(diffID digest.Digest) error {
	for {
		c, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		c.Release()
	}
	if got := digest.NewDigest(digest.SHA256, r.hash); got != diffID {
		return &MismatchError{Want: diffID, Got: got}
	}
	return nil
}

// Close frees what Open took. It may be called at any time, once.
func (r *Reader) Close() {
	if r.cur != nil {
		r.cur.Release()
		r.cur = nil
	}
	r.close()
}
