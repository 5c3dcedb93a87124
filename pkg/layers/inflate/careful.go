package inflate

import "math/bits"

// decodeCareful decodes symbols one by one: it reads no byte that the symbol does
// not need and writes none that the symbol does not mean. It is what the fast loops
// are measured against, and takes over from them near the end of the input. It
// stops after the block's end, when out has no room for a longest match, or as
// soon as a fast loop could run.
func decodeCareful[E element](d *Decoder, out []E, pos int) (end int, done bool, err error) {
	for len(out)-pos >= longestMatch {
		if d.canRunFast(len(out) - pos) {
			return pos, false, nil
		}
		e, used, err := d.next(d.lit[:], bits.Len64(d.litMask))
		switch {
		case err != nil:
			return pos, false, err
		case e&entryLiteral != 0:
			out[pos] = E(e >> 16 & 0xff)
			pos++
			continue
		case e&entryRare != 0 && e&entryEnd != 0:
			return pos, true, nil
		case e&entryRare != 0:
			return pos, false, d.corrupt(InvalidSymbol)
		}
		length := value(e, used)

		e, used, err = d.next(d.dist[:], distBits)
		switch {
		case err != nil:
			return pos, false, err
		case e&entryRare != 0:
			return pos, false, d.corrupt(InvalidDistance)
		}
		distance := value(e, used)
		if distance > pos {
			return pos, false, d.corrupt(DistanceTooFar)
		}
		// One by one: a match may run into its own output.
		for range length {
			out[pos] = out[pos-distance]
			pos++
		}
	}
	return pos, false, nil
}
