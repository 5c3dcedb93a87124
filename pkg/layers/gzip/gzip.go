// Package gzip reads gzip (RFC 1952) in place of compress/gzip, about three
// times as fast.
//
// Change the import, and NewReader, Reset, Multistream, Read, Close and Header
// are what they were:
//
//	z, err := gzip.NewReader(r)
//	...
//	_, err = io.Copy(w, z)
//
// What is gzip is decided more strictly, as zlib does: reserved header flags are
// an error. Zero bytes after the last member are padding, as tar pads tapes, and
// anything else there is an error.
//
// A pipeline that wants no copying lets Decode write into windows of its own,
// see package inflate for what they look like.
package gzip

import (
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"peel/pkg/layers/inflate"
)

// Header is what compress/gzip calls so.
type Header = gzip.Header

// These are compress/gzip's own. The errors of this package wrap them; test for
// them with errors.Is.
var (
	ErrHeader   = gzip.ErrHeader
	ErrChecksum = gzip.ErrChecksum
)

// HeaderError reports bytes that are no gzip header. It is an ErrHeader.
type HeaderError struct {
	Reason string
	Offset int64 // in the input, of the byte after the offending one
}

func (e *HeaderError) Error() string {
	return fmt.Sprintf("%v: %s, at byte %d of the input", ErrHeader, e.Reason, e.Offset)
}

func (e *HeaderError) Unwrap() error { return ErrHeader }

// ChecksumError reports contents that are not those which the member's trailer
// describes. It is an ErrChecksum.
type ChecksumError struct {
	Field     string // "CRC-32", or "length", which counts modulo 2^32
	Want, Got uint32 // the trailer's, the contents'
	Offset    int64  // in the input, of the end of the trailer
}

func (e *ChecksumError) Error() string {
	return fmt.Sprintf("%v: %s is %#x, the trailer says %#x, at byte %d of the input", ErrChecksum, e.Field, e.Got, e.Want, e.Offset)
}

func (e *ChecksumError) Unwrap() error { return ErrChecksum }

// TrailingError reports bytes after the last member which are neither another
// member nor zero. It is an ErrHeader, as in compress/gzip.
type TrailingError struct {
	Offset int64 // in the input, of the byte after the first of them
}

func (e *TrailingError) Error() string {
	return fmt.Sprintf("gzip: trailing bytes that are not gzip, at byte %d of the input", e.Offset)
}

func (e *TrailingError) Unwrap() error { return ErrHeader }

// payload is how much a Reader decodes at a time for Read. With less, the history
// is moved more often; with much more, it leaves the second-level cache.
const payload = 256 << 10

// A Reader reads the contents of a gzip file: a member, or a row of them. It
// holds 368 KiB, most of it from the first Read on; Reset keeps and reuses it.
//
// Contents that it has returned are tentative until it returns io.EOF, which
// means that length and CRC-32 of every member have been found right.
type Reader struct {
	Header // the first member's, valid after NewReader or Reset

	in        inflate.Input
	member    inflate.Decoder
	crc, size uint32 // of the member so far
	single    bool
	unchecked bool
	ahead     *ahead // nil until Speculate
	stopAt    int64  // unless 0, no member is begun from here on
	err       error

	window   []byte // for Read and WriteTo: out[from:to] is not read yet
	from, to int
}

// NewReader reads the first header from r. At the end of r that is io.EOF.
//
// If r is not an io.ByteReader, more may be read from it than the gzip file.
func NewReader(r io.Reader) (*Reader, error) {
	z := new(Reader)
	if err := z.Reset(r); err != nil {
		return nil, err
	}
	return z, nil
}

// Reset makes z what NewReader(r) returns, and keeps its memory.
func (z *Reader) Reset(r io.Reader) error {
	z.stopAhead()
	z.ahead = nil
	z.Header = Header{}
	z.single, z.unchecked = false, false
	z.from, z.to = 0, 0
	z.in.Reset(r)
	z.err = z.begin(&z.Header)
	if z.err != nil {
		z.in.Sync()
	}
	return z.err
}

// Multistream(false) makes the present member the last: Read returns io.EOF at
// its end, and an io.ByteReader stands behind its trailer. Reset begins the next.
func (z *Reader) Multistream(ok bool) { z.single = !ok }

// SkipChecksum leaves the CRC-32s unchecked until Reset, for a caller who checks
// a stronger digest of the contents. Lengths are checked all the same.
func (z *Reader) SkipChecksum() { z.unchecked = true }

// Close ends what Speculate began. Otherwise a Reader holds nothing but memory.
// It does not close r.
func (z *Reader) Close() error {
	z.stopAhead()
	if z.ahead != nil && z.err == nil {
		z.err = errStopped
		return nil
	}
	if z.err == io.EOF {
		return nil
	}
	return z.err
}

func (z *Reader) stopAhead() {
	if z.ahead != nil {
		z.ahead.close()
	}
}

// Decode appends contents to window[:pos] and returns the new end. It does so
// as inflate.Decoder's method does, but goes on from member to member.
func (z *Reader) Decode(window []byte, pos int) (int, error) {
	if z.err != nil {
		return pos, z.err
	}
	for len(window)-pos >= inflate.Slack {
		if z.ahead != nil && z.ahead.inMembers() {
			var err error
			if pos, err = z.ahead.take(z, window, pos); err != nil {
				return pos, z.fail(err)
			}
			continue
		}
		var end int
		var err error
		if z.ahead == nil {
			end, err = z.member.Decode(window, pos)
		} else {
			end, err = z.decodeAhead(window, pos)
		}
		if !z.unchecked {
			z.crc = crc32.Update(z.crc, crc32.IEEETable, window[pos:end])
		}
		z.size += uint32(end - pos)
		pos = end
		if err == nil {
			break
		}
		if err == io.EOF {
			if err = z.trailer(); err == nil {
				err = z.next()
			}
		}
		if err != nil {
			return pos, z.fail(err)
		}
	}
	return pos, nil
}

// fail ends reading, with io.EOF in the best case.
func (z *Reader) fail(err error) error {
	z.err = err
	z.in.Sync()
	z.stopAhead()
	return err
}

// Read reads contents.
func (z *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if z.from == z.to {
		if err := z.more(); err != nil {
			return 0, err
		}
	}
	n := copy(p, z.window[z.from:z.to])
	z.from += n
	return n, nil
}

// WriteTo writes the contents to w, without the copy that Read makes.
func (z *Reader) WriteTo(w io.Writer) (n int64, err error) {
	for {
		if z.from == z.to {
			if err := z.more(); err != nil {
				if err == io.EOF {
					err = nil
				}
				return n, err
			}
		}
		m, err := w.Write(z.window[z.from:z.to])
		n += int64(m)
		z.from += m
		switch {
		case err != nil:
			return n, err
		case z.from < z.to:
			return n, io.ErrShortWrite
		}
	}
}

// more decodes into the window once everything in it has been read. It returns
// an error only where it has decoded nothing.
func (z *Reader) more() error {
	if z.window == nil {
		z.window = make([]byte, inflate.History+payload+inflate.Slack)
	}
	for z.from == z.to {
		if len(z.window)-z.to < inflate.Slack {
			z.to = copy(z.window, z.window[z.to-inflate.History:z.to])
			z.from = z.to
		}
		var err error
		z.to, err = z.Decode(z.window, z.to)
		if err != nil && z.from == z.to {
			return err
		}
	}
	return nil
}

// trailer reads RFC 1952 2.3.1's CRC32 and ISIZE and compares them.
func (z *Reader) trailer() error {
	var b [8]byte
	for i := range b {
		var err error
		if b[i], err = z.in.ReadByte(); err != nil {
			return noEOF(err)
		}
	}
	crc, size := binary.LittleEndian.Uint32(b[:4]), binary.LittleEndian.Uint32(b[4:])
	if crc != z.crc && !z.unchecked {
		return &ChecksumError{Field: "CRC-32", Want: crc, Got: z.crc, Offset: z.in.Offset()}
	}
	if size != z.size {
		return &ChecksumError{Field: "length", Want: size, Got: z.size, Offset: z.in.Offset()}
	}
	return nil
}

// next begins the next member, or returns io.EOF at the end of the last.
func (z *Reader) next() error {
	switch {
	case z.single:
		return io.EOF
	case z.stopAt != 0 && z.in.Offset() >= z.stopAt:
		return errNextMember
	case z.ahead != nil && z.ahead.adoptMembers(z):
		return nil
	}
	b, err := z.in.ReadByte()
	if err != nil {
		return err
	}
	if b == id1 {
		return z.beginAfter(b, nil)
	}
	for b == 0 {
		if b, err = z.in.ReadByte(); err != nil {
			return err
		}
	}
	return &TrailingError{Offset: z.in.Offset()}
}

var errNextMember = errors.New("gzip: stopped between members")

// noEOF is for an end where more must come.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
