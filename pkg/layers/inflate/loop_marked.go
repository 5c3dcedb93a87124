//go:build amd64 || arm64

package inflate

import "unsafe"

func store16(p unsafe.Pointer, i uint, v uint16) { *(*uint16)(unsafe.Add(p, 2*i)) = v }

// loopMarked is loopGo for marked output, whose positions count symbols. A copy
// goes by 8 symbols, which overshoots by less than the sums in fast.go allow.
func (s *state) loopMarked() outcome {
	in, out := s.in, s.out
	inPos, outPos := s.inPos, s.outPos
	lit, dist, mask := unsafe.Pointer(&s.lit), unsafe.Pointer(&s.dist), s.litMask

	// The bits at hand. Only the low byte of left counts: subtracting a whole
	// entry takes its lowest byte, the bits it uses, and puts noise above.
	// The refill ORs in 8 bytes and moves on by as many whole ones as were free;
	// the bits of the next byte that this leaves on top are the right ones already.
	bits, left := s.bits, s.numBits
	how := outOfRoom

	bits |= load64(in, inPos) << (left & 63)
	inPos += uint(7 - left>>3&7)
	left |= 56
	e := entryAt(lit, bits&mask)

	for inPos < s.inEnd && outPos < s.outEnd {
		used := bits
		bits >>= e & 63
		left -= uint64(e)
		if e&entryLiteral != 0 {
			store16(out, outPos, uint16(e>>16&0xff))
			outPos++
			e = entryAt(lit, bits&mask)
			used = bits
			bits >>= e & 63
			left -= uint64(e)
			if e&entryLiteral != 0 {
				store16(out, outPos, uint16(e>>16&0xff))
				outPos++
				e = entryAt(lit, bits&mask)
				bits |= load64(in, inPos) << (left & 63)
				inPos += uint(7 - left>>3&7)
				left |= 56
				continue
			}
		}
		if e&entryRare != 0 {
			if e&entrySubtable != 0 {
				e = entryAt(lit, uint64(e>>16&0x3fff)+bits&(1<<(e>>8&15)-1))
				used = bits
				bits >>= e & 63
				left -= uint64(e)
			}
			if e&entryLiteral != 0 {
				store16(out, outPos, uint16(e>>16&0xff))
				outPos++
				e = entryAt(lit, bits&mask)
				bits |= load64(in, inPos) << (left & 63)
				inPos += uint(7 - left>>3&7)
				left |= 56
				continue
			}
			if e&entryRare != 0 {
				how = endOfBlock
				if e&entryInvalid != 0 {
					how = badSymbol
				}
				break
			}
		}
		length := uint(extra(e, used))

		e = entryAt(dist, bits&(1<<distBits-1))
		if e&entryRare != 0 {
			if e&entrySubtable != 0 {
				bits |= load64(in, inPos) << (left & 63)
				inPos += uint(7 - left>>3&7)
				left |= 56
				bits >>= distBits
				left -= distBits
				e = entryAt(dist, uint64(e>>16&0x3fff)+bits&(1<<(e>>8&15)-1))
			}
			if e&entryRare != 0 {
				bits >>= e & 63
				left -= uint64(e)
				how = badDistance
				break
			}
		}
		distance := uint(extra(e, bits))
		bits >>= e & 63
		left -= uint64(e)
		if distance > outPos {
			how = tooFar
			break
		}

		// The next entry's load and the refill go before the copy, whose stores
		// they do not wait for.
		e = entryAt(lit, bits&mask)
		bits |= load64(in, inPos) << (left & 63)
		inPos += uint(7 - left>>3&7)
		left |= 56

		to := unsafe.Add(out, 2*outPos)
		from := unsafe.Add(to, -2*int(distance))
		outPos += length
		if distance >= 8 {
			for at := uint(0); at < 2*length; at += 16 {
				copy16(unsafe.Add(to, at), unsafe.Add(from, at))
			}
			continue
		}
		for at := range length {
			store16(to, at, *(*uint16)(unsafe.Add(from, 2*at)))
		}
	}

	s.inPos, s.outPos, s.bits, s.numBits = inPos, outPos, bits, left
	return how
}
