package inflate

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// codewords is RFC 1951 3.2.2 word for word: the codeword of each symbol as a
// string of bits in the order they are sent, and the shape of the code.
func codewords(lens []uint8) ([]string, shape) {
	words := make([]string, len(lens))
	code, space := 0, 1<<maxCodeLen
	for n := 1; n <= maxCodeLen; n++ {
		for s, l := range lens {
			if int(l) == n {
				words[s] = fmt.Sprintf("%0*b", n, code)
				code++
				space -= 1 << (maxCodeLen - n)
			}
		}
		code <<= 1
	}
	used := 0
	for _, word := range words {
		if word != "" {
			used++
		}
	}
	switch {
	case space < 0:
		return nil, oversubscribed
	case used == 0:
		return words, none
	case used == 1 && slices.Max(lens) == 1:
		return words, single
	case space > 0:
		return words, incomplete
	}
	return words, complete
}

// lookup finds a codeword in a table and returns its entry and the bits used.
func lookup(table []uint32, width int, word string) (uint32, int) {
	bits := 0
	for i, c := range word {
		bits |= int(c-'0') << i
	}
	e := table[bits&(1<<width-1)]
	if e&entryRare == 0 || e&entrySubtable == 0 {
		return e, codeLen(e)
	}
	bits >>= e & 0xff
	from, wide := int(e>>16&0x3fff), e>>8&15
	e = table[from+bits&(1<<wide-1)]
	return e, codeLen(e) + width
}

func codeLen(e uint32) int {
	if e&(entryLiteral|entryRare) != 0 {
		return int(e & 0xff)
	}
	return int(e >> 8 & 15)
}

const unused = 0xdeadbeef

// check builds a table and looks every codeword up, followed by zeros and by ones.
func check(t *testing.T, table []uint32, width int, lens []uint8, symbols []uint32) {
	t.Helper()
	words, want := codewords(lens)
	for i := range table {
		table[i] = unused
	}
	got, shape := build(table, width, lens, symbols)
	if shape != want {
		t.Fatalf("lengths %v: shape %d, want %d", lens, shape, want)
	}
	if shape > single {
		return
	}
	for s, word := range words {
		if word == "" {
			continue
		}
		for _, tail := range []string{"000000000000000", "111111111111111"} {
			e, n := lookup(table, got, word+tail)
			like := entry(symbols[s], 0)
			if n != len(word) || e>>16 != like>>16 || e&0xf000 != like&0xf000 {
				t.Fatalf("lengths %v, width %d: %s is entry %#x of %d bits, want symbol %d of %d", lens, width, word, e, n, s, len(word))
			}
		}
	}
	if shape == complete {
		return
	}
	for _, word := range []string{"0", "1"} {
		e, n := lookup(table, got, word)
		if e&entryInvalid == 0 != (word == "0" && shape == single) || n != 1 {
			t.Fatalf("lengths %v: %s is entry %#x", lens, word, e)
		}
	}
}

func TestEverySmallCodeIsBuiltAsTheRFCSays(t *testing.T) {
	table := make([]uint32, 64)
	for symbols := 1; symbols <= 6; symbols++ {
		lens := make([]uint8, symbols)
		for n := range pow(5, symbols) {
			for s := range lens {
				lens[s] = uint8(n % 5)
				n /= 5
			}
			for width := 1; width <= 4; width++ {
				check(t, table, width, lens, preSymbols[:])
			}
		}
	}
}

func pow(x, n int) int {
	p := 1
	for range n {
		p *= x
	}
	return p
}

func TestLargeCodesFitTheirTables(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	for range 3000 {
		check(t, make([]uint32, litTable), litBits, randomCode(rnd, 2+rnd.IntN(numLit-1)), litSymbols[:])
		check(t, make([]uint32, distTable), distBits, randomCode(rnd, 2+rnd.IntN(numDist-1)), distSymbols[:])
	}
}

// One of the codes that need the most room, each, as zlib's enough.c finds them.
func TestTheLargestTablesAreFullToTheEnd(t *testing.T) {
	for _, c := range []struct {
		size, width int
		counts      map[int]int // of codewords by length
		symbols     []uint32
	}{
		{litTable, litBits, map[int]int{1: 1, 2: 1, 3: 1, 4: 1, 5: 1, 12: 3, 13: 221, 14: 57, 15: 2}, litSymbols[:]},
		{distTable, distBits, map[int]int{1: 1, 2: 1, 3: 1, 4: 1, 5: 1, 6: 1, 9: 3, 10: 1, 11: 17, 12: 1, 13: 1, 14: 1, 15: 2}, distSymbols[:]},
	} {
		var lens []uint8
		for n := range maxCodeLen + 1 {
			for range c.counts[n] {
				lens = append(lens, uint8(n))
			}
		}
		table := make([]uint32, c.size)
		check(t, table, c.width, lens, c.symbols)
		if n := slices.Index(table, unused); n >= 0 {
			t.Errorf("entry %d of %d is not used", n, c.size)
		}
	}
}

// randomCode makes a complete code of n symbols by splitting codewords.
func randomCode(rnd *rand.Rand, n int) []uint8 {
	lens := []uint8{1, 1}
	for len(lens) < n {
		i := rnd.IntN(len(lens))
		if rnd.IntN(3) > 0 {
			i = len(lens) - 1 // lopsided, for long codewords
		}
		if lens[i] == maxCodeLen {
			i = slices.Index(lens, slices.Min(lens))
		}
		lens[i]++
		lens = append(lens, lens[i])
	}
	rnd.Shuffle(n, func(i, j int) { lens[i], lens[j] = lens[j], lens[i] })
	return lens
}
