package inflate

import "unsafe"

// The fast loop looks at no end of anything within a turn. A turn is one pass
// through it: two literals, or up to one and then a match. These sums say why it
// stays inside its buffers, and hold for each implementation.
//
// Bits. A turn begins after a refill, which leaves 56 bits or more that may be
// used up, and all 64 to look at. The turn then uses, at most,
//
//	2 literals, the second by a subtable          11+15    = 26
//	1 literal and a length by a subtable         11+15+5   = 31
//	and a distance of the main table             31+8+13   = 52
//
// and looks at 11 more for the next entry, 63 in all, before it refills. A
// distance by a subtable has a refill of its own, and needs 15+13+11 = 39.
//
// Input. A refill reads 8 bytes and moves on by at most 7. A turn has two at the
// most: 7+8 = 15. One more goes before the first turn: 22.
//
// Output. A turn writes a literal and a match of 258; the copy goes by 16 bytes
// at most and so overshoots by less, and writes the first 32 in any case: 275.
const (
	inTurn    = 16
	inMargin  = 32
	outMargin = 320
)

// longestRun is how much output a fast loop makes at most before it returns, for
// the collector cannot stop a goroutine that is in assembly: about 0.3 ms.
const longestRun = 256 << 10

// outcome is why a fast loop stopped.
type outcome int

const (
	outOfRoom outcome = iota // not enough input or output is left, or longestRun is over
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
func decodeFast[E element](d *Decoder, out []E, pos int) (int, outcome) {
	view := d.src.view
	d.in, d.inPos, d.inEnd = unsafe.Pointer(unsafe.SliceData(view)), uint(d.src.pos), uint(len(view)-inTurn+1)
	d.out, d.outPos, d.outEnd = unsafe.Pointer(unsafe.SliceData(out)), uint(pos), uint(min(len(out)-outMargin, pos+longestRun)+1)
	var how outcome
	if unsafe.Sizeof(out[0]) == 1 {
		how = d.loop(d.using)
	} else {
		how = d.loopMarked()
	}
	d.in, d.out = nil, nil

	d.src.pos = int(d.inPos)
	d.numBits &= 0xff
	d.putBack()
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
