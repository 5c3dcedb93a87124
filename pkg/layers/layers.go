// Package layers turns a layer's blob into its tar stream, verified.
//
// A layer travels as a blob: a tar archive, usually compressed (image-spec
// layer.md). Its manifest names the blob by the digest of the compressed
// bytes; the image's config names the tar by the digest of the uncompressed
// ones, the DiffID. Whoever delivers the blob checks the first; Reader checks
// the second, over every byte up to the end of the blob.
//
// The work is a pipe, whose stages run at once and share each chunk of the tar
// stream by reference:
//
//	          goroutine        one for several layers
//	blob --> read, decode --+--> hash for the DiffID
//	                        |
//	                        +--> Next: the caller
//
// Chunks come from a pool, and each arrow holds only a few, so a layer takes at
// most 3 MiB however far its stages drift apart, beside what the caller retains
// and the window that a zstd frame asks for. A layer that fits one chunk is
// decoded and hashed in the caller's goroutine alone. Of a long layer, other
// goroutines decode parts ahead while processors are idle (at least four are
// needed): of gzip, and of zstd in several frames. That takes some 30 MiB for each
// of them.
package layers

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
)

// MismatchError reports that a layer's tar is not the one that the config names.
type MismatchError struct {
	Want, Got digest.Digest
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("DiffID is %s, the config says %s", e.Got, e.Want)
}

// Reader is the tar stream of one layer. Read it by chunks (Next) or by bytes
// (Read), then call Finish. A Reader is for one goroutine.
type Reader struct {
	// Declared is the compression that the media type promises, Actual the one
	// that the blob's first bytes show. Where they differ, Actual was used.
	Declared, Actual Compression

	pipe   *pipe
	size   int64
	cur    *Chunk // what Read has not handed out yet
	off    int
	failed error
}

// Open starts reading a layer. The media type must be one of image-spec's or
// docker's for layers (else ErrUnknownMediaType); the blob's magic bytes decide
// how it is decompressed. The caller keeps the blob and closes it.
func Open(mediaType string, blob io.Reader) (*Reader, error) {
	declared, err := compressionOf(mediaType)
	if err != nil {
		return nil, err
	}
	br := bufio.NewReaderSize(blob, 64<<10)
	head, err := br.Peek(magicLen)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	actual, err := sniff(head)
	if err != nil {
		return nil, err
	}
	dec, err := newDecoder(actual, br)
	if err != nil {
		return nil, err
	}
	return &Reader{Declared: declared, Actual: actual, pipe: newPipe(dec)}, nil
}

// OpenTar starts reading a layer that somebody has decompressed already. Its bytes are
// not looked at for compression: a tar may begin with any, those of its first name.
func OpenTar(tar io.Reader) *Reader {
	return &Reader{Declared: None, Actual: None, pipe: newPipe(plain{io.NopCloser(tar)})}
}

// Next returns the next run of the tar stream and a reference to it that the
// caller must Release. At the end of the blob it returns io.EOF.
func (r *Reader) Next() (*Chunk, error) {
	if r.failed != nil {
		return nil, r.failed
	}
	c, err := r.pipe.next()
	if err != nil {
		r.failed = err
		return nil, err
	}
	r.size += int64(len(c.Bytes))
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
	if got := r.pipe.digest(); got != diffID {
		return &MismatchError{Want: diffID, Got: got}
	}
	return nil
}

// Close ends all stages, wherever they are, and frees what Open took. It may be
// called at any time. It waits for a Read of the blob that is under way: who
// closes early, for another failure, should first make that Read return, by
// closing the blob or cancelling its context.
func (r *Reader) Close() {
	if r.cur != nil {
		r.cur.Release()
		r.cur = nil
	}
	if r.failed == nil {
		r.failed = errClosed
	}
	r.pipe.close()
}

var errClosed = errors.New("layer is closed")
