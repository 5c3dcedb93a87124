package tar

import (
	"bytes"
	"encoding/binary"
)

// block is a header block. Fields are of fixed place and width (POSIX.1 pax,
// "ustar Interchange Format"; GNU tar manual, "Basic Tar Format").
type block [blockSize]byte

func (b *block) name() []byte     { return b[0:100] }
func (b *block) mode() []byte     { return b[100:108] }
func (b *block) uid() []byte      { return b[108:116] }
func (b *block) gid() []byte      { return b[116:124] }
func (b *block) size() []byte     { return b[124:136] }
func (b *block) mtime() []byte    { return b[136:148] }
func (b *block) checksum() []byte { return b[148:156] }
func (b *block) typeFlag() byte   { return b[156] }
func (b *block) linkname() []byte { return b[157:257] }
func (b *block) major() []byte    { return b[329:337] }
func (b *block) minor() []byte    { return b[337:345] }

func (b *block) ustarPrefix() []byte { return b[345:500] }

// Schily's star shortens the prefix to make room for two times, atime and ctime.
func (b *block) starPrefix() []byte { return b[345:476] }
func (b *block) starAtime() []byte  { return b[476:488] }

// GNU has no prefix, but times, and the map of a sparse file.
func (b *block) gnuAtime() []byte    { return b[345:357] }
func (b *block) gnuCtime() []byte    { return b[357:369] }
func (b *block) gnuSparse() []byte   { return b[386:483] }
func (b *block) gnuRealSize() []byte { return b[483:495] }

// dialect is whose header block it is.
type dialect int

const (
	v7 dialect = iota
	ustar
	star
	gnu
)

func (b *block) dialect() dialect {
	switch magic := b[257:265]; {
	case string(magic[:6]) == "ustar\x00" && string(b[508:]) == "tar\x00":
		return star
	case string(magic[:6]) == "ustar\x00":
		return ustar
	case string(magic) == "ustar  \x00":
		return gnu
	}
	return v7
}

// sum adds up all bytes of the block, eight at a time: the even and the odd ones
// go to four 16-bit lanes, each of which gets 2 * 64 bytes, at most 32640.
func (b *block) sum() int {
	const even = 0x00ff00ff00ff00ff
	var lanes uint64
	for i := 0; i < blockSize; i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		lanes += x&even + x>>8&even
	}
	return int(lanes&0xffff + lanes>>16&0xffff + lanes>>32&0xffff + lanes>>48)
}

// checksumOK compares the block's checksum with its sum, taken with the checksum
// field itself as spaces. Sun's tar added up signed bytes: that is right too.
func (b *block) checksumOK(sum int) bool {
	want, ok := octal(b.checksum())
	if !ok {
		return false
	}
	for _, c := range b.checksum() {
		sum += ' ' - int(c)
	}
	if want == int64(sum) {
		return true
	}
	for i, c := range b {
		if c >= 0x80 && (i < 148 || i >= 156) {
			sum -= 256
		}
	}
	return want == int64(sum)
}

// text is a field up to its first NUL, which need not be there.
func text(field []byte) []byte {
	if i := bytes.IndexByte(field, 0); i >= 0 {
		return field[:i]
	}
	return field
}

// number reads a numeric field: octal digits or, with the highest bit set, GNU's
// base-256, a big-endian two's complement number of the bits that are left.
func number(field []byte) (n int64, ok bool) {
	if field[0]&0x80 == 0 {
		return octal(field)
	}
	var flip byte // a negative number is read as its complement
	if field[0]&0x40 != 0 {
		flip = 0xff
	}
	x := uint64((field[0] ^ flip) & 0x7f)
	for _, c := range field[1:] {
		if x>>56 != 0 {
			return 0, false
		}
		x = x<<8 | uint64(c^flip)
	}
	if x>>63 != 0 {
		return 0, false
	}
	if flip != 0 {
		return ^int64(x), true
	}
	return int64(x), true
}

// octal reads digits with NULs and spaces around them; no digits are a zero. A
// NUL ends the number whatever comes behind it, a space only at the end. Fields
// are at most 12 bytes wide, so nothing overflows.
func octal(field []byte) (n int64, ok bool) {
	i := 0
	for i < len(field) && (field[i] == ' ' || field[i] == 0) {
		i++
	}
	for ; i < len(field) && field[i]-'0' < 8; i++ {
		n = n<<3 | int64(field[i]-'0')
	}
	if i == len(field) || field[i] == 0 {
		return n, true
	}
	for _, c := range field[i:] {
		if c != ' ' && c != 0 {
			return 0, false
		}
	}
	return n, true
}

// decimal reads a whole decimal number with an optional sign, as in PAX records.
func decimal(s []byte) (n int64, ok bool) {
	digits := s
	negative := len(s) > 0 && s[0] == '-'
	if negative || len(s) > 0 && s[0] == '+' {
		digits = s[1:]
	}
	if len(digits) == 0 {
		return 0, false
	}
	// Counted downwards, because the range reaches one further there.
	const lowest = -1 << 63
	for _, c := range digits {
		d := int64(c - '0')
		if c < '0' || c > '9' || n < lowest/10 || n*10 < lowest+d {
			return 0, false
		}
		n = n*10 - d
	}
	if negative {
		return n, true
	}
	if n == lowest {
		return 0, false
	}
	return -n, true
}
