package zstd

import (
	"bytes"
	"encoding/binary"
	"io"
)

// walker finds the ends of frames (RFC 8878, 3.1) by their headers and those of
// their blocks. It decodes nothing and judges little: what it takes for a frame
// may still turn out not to be one.
type walker struct {
	next     header
	seen     [8]byte // of that header
	have     int
	skip     uint64 // bytes before that header
	last     bool   // there is none: the frame ends there
	checksum bool   // follows the last block
}

// header is what a walker reads next.
type header int

const (
	frameMagic header = iota
	skippableSize
	frameDescriptor
	blockHeader
)

// Bytes to have seen for each header. Size and descriptor come after the magic.
var headerSize = [...]int{frameMagic: 4, skippableSize: 8, frameDescriptor: 5, blockHeader: 3}

const (
	magic          = 0xfd2fb528
	skippableMagic = 0x184d2a50
	reservedBlock  = 3
	rleBlock       = 1
)

// between tells whether the walker stands between two frames.
func (w *walker) between() bool { return w.next == frameMagic && w.have == 0 && !w.last }

// walk goes on through p, to the end of a frame or of p. ok is false where no
// frame can go on as p does.
func (w *walker) walk(p []byte) (n int, ended, ok bool) {
	for {
		m := min(w.skip, uint64(len(p)-n))
		w.skip -= m
		if n += int(m); w.skip > 0 {
			return n, false, true
		}
		if w.last {
			w.last, w.next = false, frameMagic
			return n, true, true
		}
		seen := copy(w.seen[w.have:headerSize[w.next]], p[n:])
		w.have += seen
		if n += seen; w.have < headerSize[w.next] {
			return n, false, true
		}
		if !w.read() {
			return n, false, false
		}
	}
}

// read takes a header that has been seen.
func (w *walker) read() bool {
	switch w.next {
	case frameMagic:
		switch m := binary.LittleEndian.Uint32(w.seen[:]); {
		case m == magic:
			w.next = frameDescriptor
		case m&^15 == skippableMagic:
			w.next = skippableSize
		default:
			return false
		}
		return true // what follows is seen behind the magic
	case skippableSize:
		w.skip, w.last = uint64(binary.LittleEndian.Uint32(w.seen[4:])), true
	case frameDescriptor:
		d := w.seen[4]
		single := d >> 5 & 1
		w.skip = [...]uint64{0, 1, 2, 4}[d&3] + // dictionary
			[...]uint64{uint64(single), 2, 4, 8}[d>>6] + // content size
			uint64(1-single) // window
		w.checksum = d>>2&1 == 1
		w.next = blockHeader
	case blockHeader:
		b := uint32(w.seen[0]) | uint32(w.seen[1])<<8 | uint32(w.seen[2])<<16
		w.skip = uint64(b >> 3)
		switch b >> 1 & 3 {
		case reservedBlock:
			return false
		case rleBlock:
			w.skip = 1
		}
		if w.last = b&1 == 1; w.last && w.checksum {
			w.skip += 4
		}
	}
	w.have = 0
	return true
}

// source is the blob as the serial decoder reads it.
type source struct {
	r      io.Reader
	walker walker
	frames int    // that have ended
	lost   bool   // where frames end is not known any more
	stop   bool   // end with the present frame
	rest   []byte // of the last read, behind that end
	err    error  // of the last read, if it had a rest
}

// behind is the stream from the end on at which the source has stopped.
func (s *source) behind() io.Reader {
	if s.err != nil {
		return io.MultiReader(bytes.NewReader(s.rest), failing{s.err})
	}
	return io.MultiReader(bytes.NewReader(s.rest), s.r)
}

// failing is a reader that has failed.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// stopped tells whether the end that the decoder has seen is only of a frame.
func (s *source) stopped() bool { return s.stop && !s.lost && s.walker.between() }

func (s *source) Read(p []byte) (int, error) {
	if s.stopped() {
		return 0, io.EOF
	}
	n, err := s.r.Read(p)
	for at := 0; at < n && !s.lost; {
		m, ended, ok := s.walker.walk(p[at:n])
		at += m
		s.lost = !ok
		if ended {
			s.frames++
		}
		if s.stopped() {
			s.rest, s.err = append(s.rest, p[at:n]...), err
			return at, nil
		}
	}
	return n, err
}
