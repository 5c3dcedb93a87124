package export

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

// The types of tar entries (POSIX.1 pax, "ustar Interchange Format").
const (
	typeReg     = '0'
	typeLink    = '1'
	typeSymlink = '2'
	typeChar    = '3'
	typeBlock   = '4'
	typeDir     = '5'
	typeFifo    = '6'
	typePAX     = 'x'
)

// header is what an entry says about a file.
type header struct {
	name, link   []byte // a directory's name ends in a slash
	typ          byte
	mode         uint32 // 07777
	uid, gid     uint32
	size         int64 // of a typeReg, else 0
	sec          int64 // of the modification time
	nsec         uint32
	major, minor uint32
	xattrs       []xattr  // sorted by name
	sparse       []extent // not nil: all else of the file is holes
}

type xattr struct{ name, value []byte }

// extent is a region of a file that holds data.
type extent struct{ off, size int64 }

// The fields of a ustar header block: where they begin and end.
const (
	fieldName, endName     = 0, 100
	fieldMode, endMode     = 100, 108
	fieldUID, endUID       = 108, 116
	fieldGID, endGID       = 116, 124
	fieldSize, endSize     = 124, 136
	fieldMTime, endMTime   = 136, 148
	fieldSum, endSum       = 148, 156
	fieldType              = 156
	fieldLink, endLink     = 157, 257
	fieldMagic             = 257
	fieldMajor, endMajor   = 329, 337
	fieldMinor, endMinor   = 337, 345
	fieldPrefix, endPrefix = 345, 500
)

// What an octal field of eight and of twelve bytes holds, its last being NUL.
const (
	maxOctal8  = 1<<21 - 1
	maxOctal12 = 1<<33 - 1
)

// encoder turns headers into blocks. Its zero value is ready.
type encoder struct {
	buf     []byte // the encoded header
	records []byte
	data    []byte // the map of a sparse file
	text    []byte // a value on its way into a record, or a name into a block
}

// encode returns the blocks of h: an extended header with its body where the
// plain one does not suffice, then the plain one, then the map of a sparse file.
// They are good until the next call.
func (e *encoder) encode(h *header) []byte {
	e.buf, e.records, e.data = e.buf[:0], e.records[:0], e.data[:0]
	plain := *h
	if h.sparse != nil {
		e.sparse(&plain)
	}
	for _, x := range h.xattrs {
		e.record("SCHILY.xattr.", x.name, x.value)
		if key, ok := aclRecords[string(x.name)]; ok {
			if e.text = appendACL(e.text[:0], x.value); len(e.text) > 0 {
				e.record(key, nil, e.text)
			}
		}
	}
	if h.gid > maxOctal8 {
		e.number("gid", int64(h.gid))
		plain.gid = maxOctal8
	}
	prefix, base, fits := splitName(plain.name)
	if len(h.link) > endLink-fieldLink {
		e.record("linkpath", nil, h.link)
		plain.link = h.link[:endLink-fieldLink]
	}
	if h.nsec != 0 || h.sec < 0 || h.sec > maxOctal12 {
		e.text = appendTime(e.text[:0], h.sec, h.nsec)
		e.record("mtime", nil, e.text)
		plain.sec = min(max(h.sec, 0), maxOctal12)
	}
	if !fits {
		if h.sparse == nil {
			e.record("path", nil, plain.name)
		}
		prefix, base = nil, plain.name[:endName-fieldName]
	}
	if plain.size > maxOctal12 {
		e.number("size", plain.size)
		plain.size = maxOctal12
	}
	if h.uid > maxOctal8 {
		e.number("uid", int64(h.uid))
		plain.uid = maxOctal8
	}

	if len(e.records) > 0 {
		// Names of an entry with an extended header are UTF-8 to libarchive, those in
		// the plain one, too, unless this says that they are not text.
		if !utf8.Valid(h.name) || !utf8.Valid(h.link) {
			e.records = slices.Insert(e.records, 0, []byte("21 hdrcharset=BINARY\n")...)
		}
		e.text = appendStand(e.text[:0], "PaxHeaders.0/", h.name)
		e.block(&header{typ: typePAX, mode: 0o644, size: int64(len(e.records))}, nil, e.text)
		e.buf = append(e.buf, e.records...)
		e.pad()
	}
	e.block(&plain, prefix, base)
	e.buf = append(e.buf, e.data...)
	return e.buf
}

// sparse makes h that of a GNU.sparse 1.0 file: records tell its real name and
// size, and its body begins with the map of its extents, in decimal numbers.
func (e *encoder) sparse(h *header) {
	e.record("GNU.sparse.major", nil, []byte("1"))
	e.record("GNU.sparse.minor", nil, []byte("0"))
	e.record("GNU.sparse.name", nil, h.name)
	e.number("GNU.sparse.realsize", h.size)
	e.data = append(strconv.AppendInt(e.data, int64(len(h.sparse)), 10), '\n')
	var stored int64
	for _, x := range h.sparse {
		e.data = append(strconv.AppendInt(e.data, x.off, 10), '\n')
		e.data = append(strconv.AppendInt(e.data, x.size, 10), '\n')
		stored += x.size
	}
	e.data = append(e.data, make([]byte, padding(int64(len(e.data))))...)
	h.size = int64(len(e.data)) + stored
	h.name = appendStand(nil, "GNUSparseFile.0/", h.name)
}

// appendStand appends a name for a block that stands in for the file of that name,
// seen only by readers who do not know what they read. It fits into the block.
func appendStand(b []byte, dir string, name []byte) []byte {
	base := bytes.TrimSuffix(name, []byte{'/'})
	base = base[bytes.LastIndexByte(base, '/')+1:]
	return append(append(b, dir...), base[:min(len(base), endName-fieldName-len(dir))]...)
}

func (e *encoder) number(key string, n int64) {
	e.text = strconv.AppendInt(e.text[:0], n, 10)
	e.record(key, nil, e.text)
}

// record adds "LENGTH KEY=VALUE\n", where LENGTH counts the whole record, its own
// digits included. The key is in two parts.
func (e *encoder) record(key string, more, value []byte) {
	rest := len(" ") + len(key) + len(more) + len("=") + len(value) + len("\n")
	n := rest + decimals(rest+decimals(rest))
	e.records = strconv.AppendInt(e.records, int64(n), 10)
	e.records = append(append(append(e.records, ' '), key...), more...)
	e.records = append(append(append(e.records, '='), value...), '\n')
}

func decimals(n int) int {
	d := 1
	for ; n >= 10; n /= 10 {
		d++
	}
	return d
}

// appendTime appends seconds as a decimal fraction. nsec counts forward, also
// before 1970: -2 s and 5e8 ns is -1.5.
func appendTime(b []byte, sec int64, nsec uint32) []byte {
	if sec < 0 && nsec > 0 {
		sec, nsec = sec+1, 1e9-nsec
		if sec == 0 {
			b = append(b, '-')
		}
	}
	b = strconv.AppendInt(b, sec, 10)
	if nsec == 0 {
		return b
	}
	point := len(b)
	b = strconv.AppendInt(b, int64(nsec)+1e9, 10) // a "1" and nine digits
	b[point] = '.'
	return bytes.TrimRight(b, "0")
}

// splitName finds how a name goes into the name and prefix fields, which readers
// join with a slash.
func splitName(name []byte) (prefix, base []byte, ok bool) {
	const maxBase, maxPrefix = endName - fieldName, endPrefix - fieldPrefix
	if len(name) <= maxBase {
		return nil, name, true
	}
	// The first slash that leaves no more than a base; a directory's own trailing
	// slash is no place to split.
	from := len(name) - maxBase - 1
	i := bytes.IndexByte(name[from:len(name)-1], '/') + from
	if i < from || i > maxPrefix {
		return nil, nil, false
	}
	return name[:i], name[i+1:], true
}

// block appends one ustar block.
func (e *encoder) block(h *header, prefix, base []byte) {
	at := len(e.buf)
	e.buf = append(e.buf, make([]byte, blockSize)...)
	b := e.buf[at:]
	copy(b[fieldName:endName], base)
	octal(b[fieldMode:endMode], uint64(h.mode))
	octal(b[fieldUID:endUID], uint64(h.uid))
	octal(b[fieldGID:endGID], uint64(h.gid))
	octal(b[fieldSize:endSize], uint64(h.size))
	octal(b[fieldMTime:endMTime], uint64(h.sec))
	b[fieldType] = h.typ
	copy(b[fieldLink:endLink], h.link)
	copy(b[fieldMagic:], "ustar\x0000")
	octal(b[fieldMajor:endMajor], uint64(h.major))
	octal(b[fieldMinor:endMinor], uint64(h.minor))
	copy(b[fieldPrefix:endPrefix], prefix)

	// The sum is taken with its own field full of spaces.
	copy(b[fieldSum:endSum], "        ")
	octal(b[fieldSum:endSum-1], uint64(sum(b)))
}

// octal fills field with digits, its last byte staying NUL.
func octal(field []byte, n uint64) {
	for i := len(field) - 2; i >= 0; i-- {
		field[i] = '0' + byte(n&7)
		n >>= 3
	}
	field[len(field)-1] = 0
}

// sum adds up the bytes of a block, eight at a time: even and odd bytes of a word
// go to four lanes of sixteen bits each, which 64 words of 255 cannot fill.
func sum(b []byte) uint32 {
	const lanes = 0x00ff00ff00ff00ff
	var even, odd uint64
	for ; len(b) >= 8; b = b[8:] {
		w := binary.LittleEndian.Uint64(b)
		even += w & lanes
		odd += w >> 8 & lanes
	}
	var n uint32
	for shift := 0; shift < 64; shift += 16 {
		n += uint32(even>>shift&math.MaxUint16) + uint32(odd>>shift&math.MaxUint16)
	}
	return n
}

func (e *encoder) pad() {
	e.buf = append(e.buf, make([]byte, padding(int64(len(e.buf))))...)
}

func sortXattrs(x []xattr) {
	slices.SortFunc(x, func(a, b xattr) int { return bytes.Compare(a.name, b.name) })
}
