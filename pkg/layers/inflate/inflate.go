// Package inflate decodes DEFLATE (RFC 1951), as fast as the machine lets it
// and as strictly as zlib does.
//
// A DEFLATE stream is a row of blocks, each either stored bytes or symbols in
// two prefix codes: literals, the end of the block, and matches, which repeat
// length bytes from distance bytes back in the output, at most 32 KiB. A Decoder
// therefore writes into a window that its caller owns, in which what came before
// still lies:
//
//	                pos before             pos after
//	                     |                     |
//	window  [  history   |     new output      |  free, Slack or more at the start  ]
//
// The caller hands out the new output as it stands, copies the last History
// bytes to the front of another window when this one is full, and goes on there.
// Nothing else is copied or allocated.
//
// Symbols are decoded by one of two loops, which agree in every bit: a careful
// one that is plainly right and stops anywhere, and a fast one that runs while
// input and window have room to spare (see fast.go). Decoding can also begin in
// the middle of a stream (see speculate.go). Package gzip puts the wrapper of
// RFC 1952 around this one, and is what most programs want.
package inflate

import (
	"io"
	"unsafe"
)

const (
	// History is how far back a match may reach.
	History = 32 << 10

	// Slack is the room in the window below which Decode returns. Bytes of the
	// window after those that it returns may have been overwritten.
	Slack = 512

	longestMatch = 258
)

// A Decoder decodes one stream after another. The zero Decoder is ready for Reset.
type Decoder struct {
	state

	src    *Input
	stage  stage
	final  bool   // the present block is the last
	fixed  bool   // the tables are those of the fixed codes
	stored int    // bytes left of a stored block
	total  uint64 // output of this stream
	stopAt int64  // see StopAt
	err    error

	pre  [preTable]uint32
	lens [maxLit + maxDist]uint8

	using loopKind
}

// state is what a fast loop works on. loop_amd64.go holds its layout to what the
// assembly assumes.
type state struct {
	in      unsafe.Pointer // the input in view
	inPos   uint
	inEnd   uint // the fast loop begins no turn at or after this position
	out     unsafe.Pointer
	outPos  uint
	outEnd  uint // nor at or after this one
	bits    uint64
	numBits uint64 // how many of them are ahead of the input's position
	litMask uint64 // main table's size - 1
	lit     [litTable]uint32
	dist    [distTable]uint32
}

// loopKind selects a loop. Tests compare them.
type loopKind uint8

const (
	bestLoop    loopKind = iota // the fastest that this machine runs
	goLoop                      // the fast loop in Go
	carefulLoop                 // none but the careful one
)

type stage uint8

const (
	blockHeader stage = iota
	storedBlock
	codedBlock
	ended
)

// Reset begins a stream at src's next byte.
func (d *Decoder) Reset(src *Input) {
	d.src, d.stage, d.final, d.stored, d.total, d.err = src, blockHeader, false, 0, 0, nil
	d.bits, d.numBits, d.stopAt = 0, 0, 0
}

// Decode appends output to window[:pos], whose end must be the stream's output
// so far or the last History bytes of it, and returns the new end.
//
// It returns when less than Slack of the window is free, with io.EOF at the end
// of the stream, with an error (then with the output before it), or where the
// sender has flushed and nothing more is at hand. After the stream, src stands at
// the byte that follows. The errors are *CorruptError, io.ErrUnexpectedEOF when
// the input ends within the stream, and those of the reader.
func (d *Decoder) Decode(window []byte, pos int) (int, error) {
	if d.err != nil {
		return pos, d.err
	}
	// Matches may not reach before the stream's first byte, wherever that is.
	base := pos - int(min(uint64(pos), d.total))
	out := window[base:]
	start := pos - base
	end, err := blocks(d, out, start)
	d.putBack()
	d.total += uint64(end - start)
	if err == io.EOF && d.stage != ended {
		err = io.ErrUnexpectedEOF
	}
	d.err = err
	return base + end, err
}

func (d *Decoder) corrupt(f Fault) error {
	d.putBack()
	return &CorruptError{Fault: f, Offset: d.src.Offset()}
}

// element is what output is made of: bytes, or in marked output symbols that may
// also stand for a byte that is not known yet.
type element interface{ byte | uint16 }

// blocks decodes until the stream ends or out is full.
func blocks[E element](d *Decoder, out []E, pos int) (int, error) {
	start := pos
	for len(out)-pos >= Slack {
		var err error
		switch d.stage {
		case blockHeader:
			if d.stopAt != 0 {
				if stop, err := d.stopHere(); stop || err != nil {
					return pos, err
				}
			}
			if err = d.header(); err != nil {
				break
			}
			if d.stage == storedBlock && d.stored == 0 && pos > start && d.src.ready() == 0 {
				// An empty stored block is what compressors flush with.
				return pos, d.endBlock()
			}
		case storedBlock:
			pos, err = copyStored(d, out, pos)
		case codedBlock:
			pos, err = decodeCoded(d, out, pos)
		case ended:
			return pos, io.EOF
		}
		if err != nil {
			return pos, err
		}
	}
	return pos, nil
}

// endBlock goes on to the next block, if there is one.
func (d *Decoder) endBlock() error {
	if d.final {
		d.stage = ended
		return io.EOF
	}
	d.stage = blockHeader
	return nil
}

// copyStored copies what is left of a stored block, as far as out has room.
func copyStored[E element](d *Decoder, out []E, pos int) (int, error) {
	for d.stored > 0 {
		if pos == len(out) {
			return pos, nil
		}
		if d.src.ready() == 0 {
			if err := d.src.fill(); err != nil {
				return pos, err
			}
		}
		from := d.src.view[d.src.pos:][:min(d.stored, d.src.ready(), len(out)-pos)]
		if to, ok := any(out[pos:]).([]byte); ok {
			copy(to, from)
		} else {
			for i, b := range from {
				out[pos+i] = E(b)
			}
		}
		d.src.pos += len(from)
		d.stored -= len(from)
		pos += len(from)
	}
	return pos, d.endBlock()
}

// decodeCoded decodes symbols to the end of the block, as far as out has room.
func decodeCoded[E element](d *Decoder, out []E, pos int) (int, error) {
	for len(out)-pos >= Slack {
		if d.canRunFast(len(out) - pos) {
			var how outcome
			if pos, how = decodeFast(d, out, pos); how != outOfRoom {
				return pos, d.after(how)
			}
			continue
		}
		n, done, err := decodeCareful(d, out, pos)
		if pos = n; err != nil {
			return pos, err
		}
		if done {
			return pos, d.endBlock()
		}
	}
	return pos, nil
}
