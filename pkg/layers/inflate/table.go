package inflate

import "math/bits"

// A code is decoded by looking its next bits up in a table of entries. An entry
// holds all that a symbol does, so that one load serves a symbol, and puts the
// number of bits that it uses up in its lowest byte, where a shift by the whole
// entry finds it:
//
//	literal        bit 31, the byte in 23-16, its codeword's length in 7-0
//	length         base in 24-16, codeword's length in 11-8, that plus the extra bits in 7-0
//	distance       base in 31-16, the rest as a length has it
//	end of block   bits 15 and 13, codeword's length in 7-0
//	no such code   bits 15 and 12, codeword's length in 7-0
//	subtable       bits 15 and 14, its start in 29-16, its width in 11-8, the main table's width in 7-0
//
// Lengths within a subtable leave out the bits that led to it. Bit 15 sets the
// rare ones apart with one test.
const (
	entryLiteral  = 1 << 31
	entryRare     = 1 << 15
	entrySubtable = 1 << 14
	entryEnd      = 1 << 13
	entryInvalid  = 1 << 12
)

const (
	maxCodeLen = 15 // RFC 1951 3.2.7: code lengths are 0-15

	litBits  = 11 // widths of the main tables: wider ones leave the first-level cache,
	distBits = 8  // narrower ones meet subtables more often than one symbol in a hundred
	preBits  = 7  // the longest codeword of the code length code

	numLit  = 288 // the fixed code has two more than the 286 in use
	numDist = 32  // and two more than the 30 in use
	numPre  = 19

	maxLit  = 286
	maxDist = 30

	// The most entries that a code can need, subtables included: what zlib's
	// examples/enough.c computes for these numbers of symbols, widths and lengths.
	litTable  = 2342 // enough 288 11 15
	distTable = 402  // enough 32 8 15
	preTable  = 1 << preBits
)

// RFC 1951 3.2.5.
var (
	lengthBase = [29]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31,
		35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthExtra = [29]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2,
		3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distBase = [30]uint16{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193,
		257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	distExtra = [30]uint8{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6,
		7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
)

// What the entries of a symbol have in common: all but the codeword's length,
// which is added in both of its places.
var (
	litSymbols  = litEntries()
	distSymbols = distEntries()
	preSymbols  = preEntries()
)

func litEntries() (e [numLit]uint32) {
	for s := range 256 {
		e[s] = entryLiteral | uint32(s)<<16
	}
	e[256] = entryRare | entryEnd
	for i, base := range lengthBase {
		e[257+i] = uint32(base)<<16 | uint32(lengthExtra[i])
	}
	for s := maxLit; s < numLit; s++ {
		e[s] = entryRare | entryInvalid
	}
	return e
}

func distEntries() (e [numDist]uint32) {
	for i, base := range distBase {
		e[i] = uint32(base)<<16 | uint32(distExtra[i])
	}
	for s := maxDist; s < numDist; s++ {
		e[s] = entryRare | entryInvalid
	}
	return e
}

func preEntries() (e [numPre]uint32) {
	for s := range e {
		e[s] = uint32(s) << 16
	}
	return e
}

// shape is how completely the lengths of a code use up its codewords.
type shape uint8

const (
	complete shape = iota
	none           // no symbol has a codeword
	single         // one symbol has, of one bit; the other bit means nothing
	incomplete
	oversubscribed
)

// build fills table for the canonical code (RFC 1951 3.2.2) in which symbol s
// has lens[s] bits and the entry symbols[s]. The main table takes min(width, the
// longest codeword) bits, which is returned. Nothing is built for a code that is
// incomplete or oversubscribed.
func build(table []uint32, width int, lens []uint8, symbols []uint32) (int, shape) {
	// Symbols in the order of their codewords: by length, then by number.
	var count, start [maxCodeLen + 2]uint16
	for _, n := range lens {
		count[n]++
	}
	longest, space := 0, 0
	for n := 1; n <= maxCodeLen; n++ {
		start[n+1] = start[n] + count[n]
		space += int(count[n]) << (maxCodeLen - n)
		if count[n] != 0 {
			longest = n
		}
	}
	var sorted [numLit]uint16
	at := start
	for s, n := range lens {
		if n != 0 {
			sorted[at[n]] = uint16(s)
			at[n]++
		}
	}
	order := sorted[:start[maxCodeLen+1]]

	switch {
	case space > 1<<maxCodeLen:
		return 0, oversubscribed
	case len(order) == 0:
		table[0], table[1] = entryRare|entryInvalid|1, entryRare|entryInvalid|1
		return 1, none
	case len(order) == 1 && longest == 1:
		table[0], table[1] = symbols[order[0]]+0x101, entryRare|entryInvalid|1
		return 1, single
	case space < 1<<maxCodeLen:
		return 0, incomplete
	}

	// Codewords arrive from the stream with their first bit lowest, so they are
	// counted here with their bits reversed. The table holds the codewords of up
	// to n bits in its first 1<<n entries, and doubles when n grows.
	width = min(width, longest)
	word := 0
	i := 0
	for n := 1; n <= width; n++ {
		half := 1 << (n - 1)
		if n > 1 {
			copy(table[half:2*half], table[:half])
		}
		for range count[n] {
			s := order[i]
			i++
			table[word] = entry(symbols[s], n)
			if i == len(order) {
				// The rest of the main table repeats, if n is not the width yet;
				// it is, for the last codeword has the longest length.
				return width, complete
			}
			word = successor(word, n)
		}
	}

	// Longer codewords go to a subtable for each value of their first width bits.
	free := 1 << width
	prefix, from, wide := -1, 0, 0
	for n := width + 1; n <= longest; n++ {
		for left := int(count[n]); left > 0; left-- {
			if p := word & (1<<width - 1); p != prefix {
				// As wide as its codewords, taken in order, need to fill it.
				prefix, from, wide = p, free, n-width
				for room := left; room < 1<<wide; {
					wide++
					room = room<<1 + int(count[width+wide])
				}
				free += 1 << wide
				table[prefix] = entryRare | entrySubtable | uint32(from)<<16 | uint32(wide)<<8 | uint32(width)
			}
			e := entry(symbols[order[i]], n-width)
			i++
			for j := word >> width; j < 1<<wide; j += 1 << (n - width) {
				table[from+j] = e
			}
			if i < len(order) {
				word = successor(word, n)
			}
		}
	}
	return width, complete
}

// entry completes a symbol's entry with the length of its codeword.
func entry(symbol uint32, n int) uint32 {
	if symbol&(entryLiteral|entryRare) != 0 {
		return symbol + uint32(n)
	}
	return symbol + uint32(n)<<8 + uint32(n)
}

// successor adds one to a codeword of n bits, not the last of them, whose first
// bit is the lowest: the ones at the high end turn to zero, the zero below them
// to one.
func successor(word, n int) int {
	bit := 1 << (bits.Len(uint(word^(1<<n-1))) - 1)
	return word&(bit-1) | bit
}
