//go:build amd64 || arm64

package inflate

import "unsafe"

const hasLoop = true

func load64(p unsafe.Pointer, i uint) uint64     { return *(*uint64)(unsafe.Add(p, i)) }
func store64(p unsafe.Pointer, i uint, v uint64) { *(*uint64)(unsafe.Add(p, i)) = v }
func store8(p unsafe.Pointer, i uint, v byte)    { *(*byte)(unsafe.Add(p, i)) = v }

func copy16(to, from unsafe.Pointer) { *(*[16]byte)(to) = *(*[16]byte)(from) }

// entryAt is table[i] for an i that a mask or the table's own subtables bound.
func entryAt(table unsafe.Pointer, i uint64) uint32 { return *(*uint32)(unsafe.Add(table, i*4)) }

// extra is the length or distance of an entry whose bits are the lowest of bits.
func extra(e uint32, bits uint64) uint64 {
	return uint64(e>>16) + (bits&(1<<(e&63)-1))>>(e>>8&15)
}

// loopGo is the fast loop (see fast.go) for processors of little-endian order
// that load from any address.
func (s *state) loopGo() outcome {
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
			store8(out, outPos, byte(e>>16))
			outPos++
			e = entryAt(lit, bits&mask)
			used = bits
			bits >>= e & 63
			left -= uint64(e)
			if e&entryLiteral != 0 {
				store8(out, outPos, byte(e>>16))
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
				store8(out, outPos, byte(e>>16))
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

		to := unsafe.Add(out, outPos)
		from := unsafe.Add(to, -int(distance))
		outPos += length
		switch {
		case distance >= 16:
			copy16(to, from)
			copy16(unsafe.Add(to, 16), unsafe.Add(from, 16))
			for at := uint(32); at < length; at += 16 {
				copy16(unsafe.Add(to, at), unsafe.Add(from, at))
			}
		case distance >= 8:
			for at := uint(0); at < length; at += 8 {
				store64(to, at, load64(from, at))
			}
		case distance == 1:
			v := uint64(*(*byte)(from)) * 0x0101010101010101
			for at := uint(0); at < length; at += 8 {
				store64(to, at, v)
			}
		default:
			// Only the first distance bytes of each store are right: the next
			// one writes over the others.
			v := load64(from, 0)
			for at := uint(0); at < length; at += distance {
				store64(to, at, v)
			}
		}
	}

	s.inPos, s.outPos, s.bits, s.numBits = inPos, outPos, bits, left
	return how
}
