// Package zstd reads streams of zstd frames (RFC 8878). It decodes them with
// klauspost/compress, and, where it is told to and frames are short, several of
// them at the same time.
package zstd

import (
	"io"

	"github.com/klauspost/compress/zstd"
)

// Reader decodes the frames of a stream, one after another. Its output and its
// errors are those of one decoder that reads all of it, whatever is decoded ahead.
type Reader struct {
	source source
	dec    *zstd.Decoder
	max    uint64
	batch  int    // input that is decoded ahead at a time
	ahead  *ahead // nil until Ahead has been called and the frame of then has ended
	n      int    // goroutines for it
	serial bool   // ahead has given up
}

// NewReader reads frames from r that ask for a window of at most maxWindow bytes.
// The caller must Close the Reader.
func NewReader(r io.Reader, maxWindow uint64) (*Reader, error) {
	z := &Reader{source: source{r: r}, max: maxWindow, batch: batchSize}
	var err error
	z.dec, err = zstd.NewReader(&z.source, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
	return z, err
}

// Frames is how many frames have been read to their end one by one.
func (z *Reader) Frames() int { return z.source.frames }

// Ahead lets n goroutines decode whole frames ahead, from the next frame on. It
// pays where there are many short ones, as pzstd and zstd:chunked make them, and
// idle processors. Memory grows by some 2 MiB for each of them and two more, by ten
// times that in the worst case.
//
// The stream is read by another goroutine then, and Close waits for a Read of it
// that is under way.
func (z *Reader) Ahead(n int) {
	if n > 0 && z.n == 0 {
		z.n, z.source.stop = n, true
	}
}

// Read returns contents of the frames.
func (z *Reader) Read(p []byte) (int, error) {
	for {
		if z.ahead != nil && !z.serial {
			n, err := z.ahead.read(p)
			if err != errSerial {
				return n, err
			}
			z.serial = true
			if err := z.dec.Reset(z.ahead.rest()); err != nil {
				return 0, err
			}
		}
		n, err := z.dec.Read(p)
		if err != io.EOF || z.ahead != nil || !z.source.stopped() {
			return n, err
		}
		if z.ahead, err = newAhead(z.source.behind(), z.n, z.max, z.batch); err != nil || n > 0 {
			return n, err
		}
	}
}

// Close ends all goroutines and frees the decoder.
func (z *Reader) Close() error {
	if z.ahead != nil {
		z.ahead.close()
	}
	z.dec.Close()
	return nil
}
