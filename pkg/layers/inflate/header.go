package inflate

import "encoding/binary"

// Block types, RFC 1951 3.2.3.
const (
	typeStored = iota
	typeFixed
	typeDynamic
)

// take uses up the next n bits, at most 16. It reads no byte before it needs one.
func (d *Decoder) take(n uint64) (int, error) {
	for d.numBits < n {
		if err := d.pull(); err != nil {
			return 0, err
		}
	}
	v := d.bits & (1<<n - 1)
	d.bits >>= n
	d.numBits -= n
	return int(v), nil
}

// pull adds bits to those at hand: all that fit if they are in view, one byte
// otherwise, for which it may have to wait. They belong to the stream only once
// they are used up: see putBack.
func (d *Decoder) pull() error {
	if view := d.src.view[d.src.pos:]; len(view) >= 8 {
		d.bits |= binary.LittleEndian.Uint64(view) << d.numBits
		n := (63 - d.numBits) / 8
		d.src.pos += int(n)
		d.numBits += 8 * n
		return nil
	}
	b, err := d.src.ReadByte()
	if err != nil {
		d.bits, d.numBits = 0, 0 // used up, by what they are the beginning of
		return err
	}
	d.bits |= uint64(b) << d.numBits
	d.numBits += 8
	return nil
}

// putBack gives whole bytes at hand back to the input. They are still in view:
// where a byte had to be waited for, fewer than 8 bits are left over.
func (d *Decoder) putBack() {
	d.src.pos -= int(d.numBits / 8)
	d.numBits %= 8
	d.bits &= 1<<d.numBits - 1
}

// next uses up the bits of the next codeword in a table of the given main width,
// and any extra bits, and returns its entry and those bits.
func (d *Decoder) next(table []uint32, width int) (entry uint32, bits uint64, err error) {
	from := 0
	for {
		// Bits that are not there yet read as zero. A prefix code gives the right
		// entry all the same as soon as the entry is no longer than the bits that are.
		e := table[from+int(d.bits&(1<<width-1))]
		n := uint64(e & 0xff)
		switch {
		case n > d.numBits:
			if err := d.pull(); err != nil {
				return 0, 0, err
			}
			continue
		case e&entryRare != 0 && e&entrySubtable != 0:
			from, width = int(e>>16&0x3fff), int(e>>8&15)
			d.bits >>= n
			d.numBits -= n
			continue
		}
		bits = d.bits & (1<<n - 1)
		d.bits >>= n
		d.numBits -= n
		return e, bits, nil
	}
}

// value is the length or distance of an entry and the bits that it used.
func value(e uint32, bits uint64) int {
	return int(e>>16) + int(bits>>(e>>8&15))
}

// header reads a block's header and makes ready for what follows.
func (d *Decoder) header() error {
	final, err := d.take(1)
	if err != nil {
		return err
	}
	kind, err := d.take(2)
	if err != nil {
		return err
	}
	d.final = final == 1
	switch kind {
	case typeStored:
		d.stage = storedBlock
		return d.storedHeader()
	case typeFixed:
		d.stage = codedBlock
		if !d.fixed {
			d.fixedCodes()
		}
		return nil
	case typeDynamic:
		d.stage = codedBlock
		return d.dynamicHeader()
	}
	return d.corrupt(BadBlockType)
}

// storedHeader reads RFC 1951 3.2.4, which starts at a byte's first bit.
func (d *Decoder) storedHeader() error {
	d.putBack()
	d.bits, d.numBits = 0, 0
	n, err := d.take(16)
	if err != nil {
		return err
	}
	complement, err := d.take(16)
	if err != nil {
		return err
	}
	d.putBack()
	if n != complement^0xffff {
		return d.corrupt(BadStoredLength)
	}
	d.stored = n
	return nil
}

// fixedCodes builds the codes of RFC 1951 3.2.6.
func (d *Decoder) fixedCodes() {
	var lens [numLit]uint8
	for s := range lens {
		switch {
		case s < 144:
			lens[s] = 8
		case s < 256:
			lens[s] = 9
		case s < 280:
			lens[s] = 7
		default:
			lens[s] = 8
		}
	}
	width, _ := build(d.lit[:], litBits, lens[:], litSymbols[:])
	d.litMask = 1<<width - 1
	for s := range numDist {
		lens[s] = 5
	}
	width, _ = build(d.dist[:], distBits, lens[:numDist], distSymbols[:])
	d.widen(width)
	d.fixed = true
}

// preOrder is the order in which the code length code's lengths are sent.
var preOrder = [numPre]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// dynamicHeader reads RFC 1951 3.2.7. What it refuses is what zlib refuses.
func (d *Decoder) dynamicHeader() error {
	d.fixed = false
	sizes, err := d.take(14)
	if err != nil {
		return err
	}
	nlit, ndist, npre := sizes&31+257, sizes>>5&31+1, sizes>>10+4
	if nlit > maxLit || ndist > maxDist {
		return d.corrupt(TooManySymbols)
	}
	var preLens [numPre]uint8
	for _, s := range preOrder[:npre] {
		n, err := d.take(3)
		if err != nil {
			return err
		}
		preLens[s] = uint8(n)
	}
	width, shape := build(d.pre[:], preBits, preLens[:], preSymbols[:])
	if shape != complete {
		return d.corrupt(BadCodeLengthCode)
	}
	lens := d.lens[:nlit+ndist]
	if err := d.codeLengths(lens, width); err != nil {
		return err
	}
	if lens[256] == 0 {
		return d.corrupt(NoEndOfBlock)
	}
	width, shape = build(d.lit[:], litBits, lens[:nlit], litSymbols[:])
	if shape > single {
		return d.corrupt(BadLiteralCode)
	}
	d.litMask = 1<<width - 1
	width, shape = build(d.dist[:], distBits, lens[nlit:], distSymbols[:])
	if shape > single {
		return d.corrupt(BadDistanceCode)
	}
	d.widen(width)
	return nil
}

// codeLengths reads the lengths of both codes, which form one row: a repeat may
// run from the first into the second.
func (d *Decoder) codeLengths(lens []uint8, width int) error {
	for i := 0; i < len(lens); {
		e, _, err := d.next(d.pre[:], width)
		if err != nil {
			return err
		}
		symbol := e >> 16
		if symbol < 16 {
			lens[i] = uint8(symbol)
			i++
			continue
		}
		var length uint8
		var extra uint64
		var times int
		switch symbol {
		case 16:
			if i == 0 {
				return d.corrupt(RepeatOfNothing)
			}
			length, extra, times = lens[i-1], 2, 3
		case 17:
			extra, times = 3, 3
		case 18:
			extra, times = 7, 11
		}
		more, err := d.take(extra)
		if err != nil {
			return err
		}
		if times += more; times > len(lens)-i {
			return d.corrupt(TooManyLengths)
		}
		for range times {
			lens[i] = length
			i++
		}
	}
	return nil
}

// widen repeats a distance table of a smaller width up to distBits, so that its
// lookups need no mask of their own. The literal table does without: it is larger.
func (d *Decoder) widen(width int) {
	for n := 1 << width; n < 1<<distBits; n *= 2 {
		copy(d.dist[n:2*n], d.dist[:n])
	}
}
