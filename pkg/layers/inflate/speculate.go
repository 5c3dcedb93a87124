package inflate

import (
	"errors"
	"io"
	"math/bits"
	"slices"
)

// A stream can be decoded from its middle. Where blocks begin has to be found,
// for nothing says it, and matches that reach before the beginning copy bytes
// that are not known yet. Their places are marked: output is 16-bit symbols, of
// which those from Marker on stand for one of the 32 KiB before the beginning.
// Once whoever decodes from the front gets there, the bytes are filled in.
//
// This is how pugz (Kerbiriou and Chikhi, 2019) and rapidgzip (Knespel and Brunst,
// 2023) use many cores for one stream.

// Marker + i is the symbol for byte i of the History bytes before a beginning.
const Marker = 1 << 15

// ErrStop is returned by Decode and DecodeMarked where StopAt asks for it.
var ErrStop = errors.New("inflate: stopped between blocks")

// StopAt makes decoding stop, with ErrStop, between two blocks at or after the
// given bit of the input, before a block such as Find finds. 0 is never.
func (d *Decoder) StopAt(bit int64) {
	d.stopAt = bit
	if d.err == ErrStop {
		d.err = nil
	}
}

// stopHere tells whether to stop before the block that comes next.
func (d *Decoder) stopHere() (bool, error) {
	if d.Bit() < d.stopAt {
		return false, nil
	}
	for d.numBits < 3 {
		if err := d.pull(); err != nil {
			return false, err
		}
	}
	if d.bits&7 == typeDynamic<<1 {
		return true, ErrStop
	}
	return false, nil
}

// Bit is the number of bits of the input that have been used.
func (d *Decoder) Bit() int64 { return 8*d.src.Offset() - int64(d.numBits) }

// BetweenBlocks tells whether the next bit begins a block.
func (d *Decoder) BetweenBlocks() bool { return d.stage == blockHeader }

// Skip goes on after n bytes of output that were decoded elsewhere, between two
// blocks, or with end behind the last. src has been moved to the byte that the
// next bit lies in; bit is its number there.
func (d *Decoder) Skip(n int64, bit int, end bool) error {
	d.total += uint64(n)
	d.bits, d.numBits = 0, 0
	d.err, d.stage = nil, blockHeader
	if _, err := d.take(uint64(bit)); err != nil {
		return err
	}
	d.putBack()
	if end {
		d.stage = ended
		d.bits, d.numBits = 0, 0 // the last byte's other bits mean nothing
	}
	return nil
}

// History is how many bytes back a match may reach now.
func (d *Decoder) History() int { return int(min(d.total, History)) }

// ResetAt begins at a block in the middle of a stream, at the given bit of src's
// next byte. What came before is taken to be History bytes.
func (d *Decoder) ResetAt(src *Input, bit int) error {
	d.Reset(src)
	d.total = History
	_, err := d.take(uint64(bit))
	return err
}

// DecodeMarked is Decode for marked output. out[:History] are the markers; the
// output follows. A distance cannot be too great here: whether there are bytes
// where markers stand is for him to check who fills them in.
func (d *Decoder) DecodeMarked(out []uint16, pos int) (int, error) {
	if d.err != nil {
		return pos, d.err
	}
	end, err := blocks(d, out, pos)
	d.putBack()
	if err == io.EOF && d.stage != ended {
		err = io.ErrUnexpectedEOF
	}
	d.total += uint64(end - pos)
	d.err = err
	return end, err
}

// findMargin is how much room a block's header has for certain: 17 bits, 19
// lengths of 3, 316 codewords of 7 with 7 extra bits.
const findMargin = (17 + 19*3 + 316*14 + 7) / 8

// Find returns the first bit of data, from bit 8*from on and before bit 8*to,
// where a dynamic block that is not the last can begin, or -1. Such a place need
// not be a block's beginning, but in ordinary data hardly any other is found.
func (d *Decoder) Find(data []byte, from, to int) int {
	to = min(to, len(data)-findMargin)
	for at := from; at < to; at++ {
		// The 3 bits that tell the block's kind, 001, at all 8 places at once.
		w := load(data[at:])
		for kinds := uint8(^w & ^(w >> 1) & (w >> 2)); kinds != 0; kinds &= kinds - 1 {
			bit := bits.TrailingZeros8(kinds)
			if h := w >> bit; h>>3&31 <= maxLit-257 && h>>8&31 <= maxDist-1 &&
				preComplete(h>>13&15, load(data[at+2:])>>1>>bit) && d.valid(data[at:], bit) {
				return 8*at + bit
			}
		}
	}
	return -1
}

// load reads 8 bytes: at least 57 bits from any of the first byte's.
func load(b []byte) uint64 {
	_ = b[7]
	return uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
		uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
}

// preComplete tells whether n+4 lengths of 3 bits are those of a complete code,
// as far as 16 of them show, which is all that fit a word behind any bit.
func preComplete(n, lens uint64) bool {
	space := 0
	for range min(n+4, 16) {
		space += 1 << preBits >> (lens & 7) & (1<<preBits - 1)
		if space > 1<<preBits {
			return false // most are by the half
		}
		lens >>= 3
	}
	return space == 1<<preBits || n+4 > 16 && space < 1<<preBits
}

// valid tells whether a block's whole header is.
func (d *Decoder) valid(data []byte, bit int) bool {
	in := Input{view: data, err: io.EOF}
	d.Reset(&in)
	if _, err := d.take(uint64(bit)); err != nil {
		return false
	}
	return d.header() == nil && d.stage == codedBlock
}

// Markers returns what stands before marked output.
func Markers() []uint16 {
	m := make([]uint16, History)
	for i := range m {
		m[i] = Marker + uint16(i)
	}
	return m
}

// LastMarker returns the index of the last marker in symbols, or -1.
func LastMarker(symbols []uint16) int {
	for i, s := range slices.Backward(symbols) {
		if s >= Marker {
			return i
		}
	}
	return -1
}

// Fill writes symbols as bytes to out, with those of history, which are History
// long, for markers.
func Fill(out []byte, symbols []uint16, history []byte) {
	history, out = history[:History], out[:len(symbols)]
	for len(symbols) >= 4 {
		s, to := symbols[:4:4], out[:4:4]
		symbols, out = symbols[4:], out[4:]
		if w := uint64(s[0]) | uint64(s[1])<<16 | uint64(s[2])<<32 | uint64(s[3])<<48; w&(Marker*0x0001000100010001) == 0 {
			w |= w >> 8
			to[0], to[1], to[2], to[3] = byte(w), byte(w>>8), byte(w>>32), byte(w>>40)
			continue
		}
		fill(to, s, history)
	}
	fill(out, symbols, history)
}

func fill(out []byte, symbols []uint16, history []byte) {
	for i, s := range symbols {
		if s < Marker {
			out[i] = byte(s)
		} else {
			out[i] = history[s-Marker]
		}
	}
}
