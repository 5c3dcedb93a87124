package inflate

import "unsafe"

// The fast loop looks at no end of anything within a turn. A turn is one pass
// through it: up to three literals, or up to two and then a match. These sums
// say why it stays inside its buffers, and hold for each implementation.
//
// Bits. refill leaves at least 56 bits that may be used up, and at least 63 that
// may be looked at. From one refill a turn uses up
//
//	3 literals of the main table               3*11      = 33
//	2 literals, and a length by a subtable     2*11+15+5 = 42
//
// and then needs 11 more to look the next entry up before it refills (44, 53).
// A distance needs 15+13 bits, 28, so a turn refills once more before it.
//
// Input. A refill reads 8 bytes and moves on by at most 7. A turn has two at the
// most: 7+8 = 15. One more goes before the first turn: 22.
//
// Output. A turn writes 2 literals and a match of 258; the copy overshoots by
// less than 16 where 16 bytes go at a time, and the first 32 of a match are
// always written: 2+258+32 = 292.
const (
	inTurn    = 16
	inMargin  = 32
	outMargin = 320
)

// outcome is why a fast loop stopped.
type outcome int

const (
	outOfRoom outcome = iota // fewer than inMargin bytes of input or outMargin of output
	endOfBlock
	badSymbol
	badDistance
	tooFar
)

// canRunFast tells whether the fast loop can do a turn with this much room.
func (d *Decoder) canRunFast(room int) bool {
	return hasLoop && d.using != carefulLoop && d.src.ready() >= inMargin && room >= outMargin
}

// decodeFast runs the fast loop, for which there must be room.
func (d *Decoder) decodeFast(out []byte, pos int) (int, outcome) {
	view := d.src.view
	d.in, d.inPos, d.inEnd = unsafe.Pointer(unsafe.SliceData(view)), uint(d.src.pos), uint(len(view)-inTurn+1)
	d.out, d.outPos, d.outEnd = unsafe.Pointer(unsafe.SliceData(out)), uint(pos), uint(len(out)-outMargin+1)
	how := d.loop(d.using)
	d.in, d.out = nil, nil

	// What refills took beyond the last bits used goes back by whole bytes.
	d.numBits &= 0xff
	d.src.pos = int(d.inPos - uint(d.numBits>>3))
	d.numBits &= 7
	d.bits &= 1<<d.numBits - 1
	return int(d.outPos), how
}

// after says what follows when the fast loop has stopped.
func (d *Decoder) after(how outcome) error {
	switch how {
	case endOfBlock:
		return d.endBlock()
	case badSymbol:
		return d.corrupt(InvalidSymbol)
	case badDistance:
		return d.corrupt(InvalidDistance)
	case tooFar:
		return d.corrupt(DistanceTooFar)
	}
	panic("inflate: unknown outcome of the fast loop")
}
