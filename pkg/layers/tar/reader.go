package tar

import (
	"errors"
	"io"

	"peel/pkg/layers"
)

const blockSize = 512

// Reader reads the entries of one archive, in order: Next for a header, then
// Piece as often as the file's bytes are wanted. It is for one goroutine.
type Reader struct {
	src     Source
	limits  Limits
	err     error // sticky
	headers int64 // header blocks seen

	chunk *layers.Chunk // the one we hold, nil at first and at the end
	buf   []byte        // what of it has not been consumed
	off   int64         // where in the stream buf begins
	cut   block         // a block put together from two chunks or more

	hdr  Header
	left int64 // bytes of the entry's body not consumed yet
	pad  int64 // bytes behind it up to the next block
	pos  int64 // in the file, of the next byte of the body
	next int   // index in extents of the first one not fully consumed

	// Reused buffers that the fields of hdr point into.
	name, link         []byte // from the header block
	longName, longLink []byte // from GNU long name entries
	pax                []byte // the body of an extended header
	global, local      records
	xattrs             []Xattr
	extents            []Extent
}

// NewReader reads the archive that src gives. Close it to have its last chunk
// released, unless it has come to the end or to an error.
func NewReader(src Source, limits Limits) *Reader {
	return &Reader{src: src, limits: limits.withDefaults()}
}

// Next goes to the next entry, skipping what is left of the current one. It
// returns io.EOF at the end of the archive, else errors of type *Error, for good.
func (r *Reader) Next() (*Header, error) {
	if r.err != nil {
		return nil, r.err
	}
	if err := r.skipBody(); err != nil {
		return nil, r.fail(err)
	}
	r.reset()
	if err := r.entry(); err != nil {
		return nil, r.fail(err)
	}
	return &r.hdr, nil
}

// Piece lends the next run of the entry's body, without its holes if it is
// sparse; io.EOF ends it. Bytes are good until the next call on the Reader, or,
// if the caller retains Chunk, until he releases it. A body that lies in one
// chunk comes as one piece.
func (r *Reader) Piece() (Piece, error) {
	if r.err != nil {
		return Piece{}, r.err
	}
	if r.left == 0 {
		return Piece{}, io.EOF
	}
	if err := r.fill(); err != nil {
		return Piece{}, r.fail(noEOF(err))
	}
	n := min(r.left, int64(len(r.buf)))
	if r.hdr.Sparse {
		e := r.extents[r.next]
		r.pos = max(r.pos, e.Off)
		if n = min(n, e.Off+e.Len-r.pos); r.pos+n == e.Off+e.Len {
			r.next++
		}
	}
	p := Piece{Off: r.pos, Bytes: r.buf[:n:n], Chunk: r.chunk}
	r.advance(n)
	r.pos += n
	r.left -= n
	return p, nil
}

// Close releases the chunk that the Reader holds; after it, Next and Piece return
// an error. What the source has not given yet stays there.
func (r *Reader) Close() {
	if r.err == nil {
		r.err = errClosed
	}
	r.release()
}

var errClosed = errors.New("tar: reader is closed")

// fail makes err the end of the archive.
func (r *Reader) fail(err error) error {
	if err != io.EOF {
		e := &Error{Offset: r.off, Err: err}
		var limit *LimitError
		if errors.Is(err, ErrHeader) || errors.As(err, &limit) {
			e.Offset = r.hdr.Offset
		}
		e.Name = string(r.hdr.Name[:min(len(r.hdr.Name), r.limits.Name)])
		err = e
	}
	r.err = err
	r.release()
	return err
}

// reset forgets the last entry and the headers that belonged to it.
func (r *Reader) reset() {
	r.hdr = Header{}
	r.pos, r.next = 0, 0
	r.longName, r.longLink = r.longName[:0], r.longLink[:0]
	if r.local.set {
		r.local.reset()
	}
}

// release gives the held chunk back.
func (r *Reader) release() {
	if r.chunk != nil {
		r.chunk.Release()
		r.chunk, r.buf = nil, nil
	}
}

// fill sees to it that buf is not empty. It returns a bare io.EOF at the end.
func (r *Reader) fill() error {
	for len(r.buf) == 0 {
		r.release()
		c, err := r.src.Next()
		if errors.Is(err, io.EOF) {
			return io.EOF
		}
		if err != nil {
			return err
		}
		r.chunk, r.buf = c, c.Bytes
	}
	return nil
}

func (r *Reader) advance(n int64) {
	r.buf = r.buf[n:]
	r.off += n
}

// block consumes one block. It is good until the next call that consumes
// anything. io.EOF means that the stream ends right here.
func (r *Reader) block() (*block, error) {
	if len(r.buf) >= blockSize {
		b := (*block)(r.buf)
		r.advance(blockSize)
		return b, nil
	}
	for n := 0; n < blockSize; {
		if err := r.fill(); err != nil {
			if n > 0 {
				err = noEOF(err)
			}
			return nil, err
		}
		m := copy(r.cut[n:], r.buf)
		r.advance(int64(m))
		n += m
	}
	return &r.cut, nil
}

// skip consumes n bytes.
func (r *Reader) skip(n int64) error {
	for n > 0 {
		if err := r.fill(); err != nil {
			return err
		}
		m := min(n, int64(len(r.buf)))
		r.advance(m)
		n -= m
	}
	return nil
}

// skipBody goes to the block behind the current entry. The last entry's padding
// may be missing: that is the end of the archive, not an error.
func (r *Reader) skipBody() error {
	n := r.left
	r.left = 0
	if err := r.skip(n); err != nil {
		return noEOF(err)
	}
	n = r.pad
	r.pad = 0
	return r.skip(n)
}

// read consumes n bytes, which the caller has checked against a limit, into buf.
func (r *Reader) read(buf []byte, n int64) ([]byte, error) {
	buf = buf[:0]
	for n > 0 {
		if err := r.fill(); err != nil {
			return buf, noEOF(err)
		}
		m := min(n, int64(len(r.buf)))
		buf = append(buf, r.buf[:m]...)
		r.advance(m)
		n -= m
	}
	return buf, nil
}

// noEOF turns the end of the stream where it must not be into an error.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
