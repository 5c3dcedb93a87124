package tar

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"peel/pkg/layers"
)

// raw is a header block to be: what is not set is as in a plain ustar file.
type raw struct {
	name, link, prefix string
	typ                byte // '0' if zero; nul for NUL
	mode, uid, gid     string
	size, mtime        string
	major, minor       string
	magic              string            // "ustar\x0000" if empty
	at                 map[int]string    // bytes put in last, by offset
	sum                func(uint) string // what to write for the checksum
}

const (
	nul      byte = 0xff // stands for type flag NUL
	gnuMagic      = "ustar  \x00"
	v7Magic       = "\x00\x00\x00\x00\x00\x00\x00\x00"
)

func (r raw) String() string {
	var b [blockSize]byte
	put := func(off int, s, otherwise string) {
		if s == "" {
			s = otherwise
		}
		copy(b[off:], s)
	}
	put(0, r.name, "")
	put(100, r.mode, "0000644")
	put(108, r.uid, "0000000")
	put(116, r.gid, "0000000")
	put(124, r.size, "00000000000")
	put(136, r.mtime, "00000000000")
	put(148, "        ", "")
	switch r.typ {
	case 0:
		b[156] = TypeReg
	case nul:
	default:
		b[156] = r.typ
	}
	put(157, r.link, "")
	put(257, r.magic, "ustar\x0000")
	put(329, r.major, "")
	put(337, r.minor, "")
	put(345, r.prefix, "")
	for off, s := range r.at {
		copy(b[off:], s)
	}
	var sum uint
	for _, c := range b {
		sum += uint(c)
	}
	if r.sum == nil {
		r.sum = func(sum uint) string { return fmt.Sprintf("%06o\x00 ", sum) }
	}
	copy(b[148:], r.sum(sum))
	return string(b[:])
}

func octalSize(n int) string { return fmt.Sprintf("%011o", n) }

// body pads s to whole blocks.
func body(s string) string { return s + strings.Repeat("\x00", int(padding(int64(len(s))))) }

// file is a ustar file.
func file(name, content string) string {
	return raw{name: name, size: octalSize(len(content))}.String() + body(content)
}

// special is a header that describes the next one, with its body.
func special(typ byte, content string) string {
	return raw{name: "special", typ: typ, size: octalSize(len(content))}.String() + body(content)
}

// pax is an extended header of type x or g, of key=value records.
func pax(typ byte, records ...string) string {
	var s string
	for _, r := range records {
		s += record(r)
	}
	return special(typ, s)
}

// record puts its length before a key=value.
func record(kv string) string {
	n := len(kv) + 3
	for len(fmt.Sprint(n))+len(kv)+2 != n {
		n = len(fmt.Sprint(n)) + len(kv) + 2
	}
	return fmt.Sprintf("%d %s\n", n, kv)
}

func archive(parts ...string) []byte {
	return []byte(strings.Join(parts, "") + strings.Repeat("\x00", 2*blockSize))
}

// chunks is a Source that cuts data into chunks and knows which are still held. A
// chunk given back is overwritten, so that whoever still looks at it shows.
type chunks struct {
	data []byte
	size func(left int) int
	fail error // at the end, instead of io.EOF
	held int
}

func inChunksOf(data []byte, n int) *chunks {
	return &chunks{data: data, size: func(int) int { return n }}
}

func (c *chunks) Next() (*layers.Chunk, error) {
	if len(c.data) == 0 {
		if c.fail != nil {
			return nil, c.fail
		}
		return nil, io.EOF
	}
	n := min(c.size(len(c.data)), len(c.data))
	b := append([]byte(nil), c.data[:n]...)
	c.data = c.data[n:]
	c.held++
	return layers.NewChunk(b, func() {
		for i := range b {
			b[i] = 0xAA
		}
		c.held--
	}), nil
}

// entry is a Header that lives on, and the content of the file.
type entry struct {
	typ            byte
	name, link     string
	mode           uint32
	uid, gid       int64
	size           int64
	mtime, atime   time.Time
	major, minor   int64
	xattrs         string // name=value, each in quotes, a space behind it
	sparse         string // [offset length] of each extent
	offset, bodyAt int64
	content        string
}

// maxContent is how much of a sparse file's zeros the tests put into memory.
const maxContent = 1 << 20

// readAll reads all entries. It asks Piece for bytes only once the reader has moved
// on, as a writer in another goroutine would.
func readAll(src *chunks, limits Limits) ([]entry, error) {
	var all []entry
	r := NewReader(src, limits)
	defer r.Close()
	for {
		h, err := r.Next()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		e := entry{
			typ: h.Type, mode: h.Mode, uid: h.UID, gid: h.GID, size: h.Size, mtime: h.ModTime, atime: h.AccessTime,
			major: h.Major, minor: h.Minor, offset: h.Offset, bodyAt: h.BodyOffset,
		}
		var pieces []Piece
		for {
			p, err := r.Piece()
			if err == io.EOF {
				break
			}
			if err == nil && len(p.Bytes) == 0 {
				err = errors.New("empty piece")
			}
			if err != nil {
				for _, p := range pieces {
					p.Chunk.Release()
				}
				return all, err
			}
			p.Chunk.Retain()
			pieces = append(pieces, p)
		}
		var content []byte
		if h.Size <= maxContent {
			content = make([]byte, h.Size)
		}
		for _, p := range pieces {
			if content != nil {
				copy(content[p.Off:], p.Bytes)
			}
			p.Chunk.Release()
		}
		e.content = string(content)
		// Only now, to see that the header outlived its body.
		e.name, e.link = string(h.Name), string(h.Linkname)
		for _, x := range h.Xattrs {
			e.xattrs += fmt.Sprintf("%q=%q ", x.Name, x.Value)
		}
		if h.Sparse {
			e.sparse = "sparse"
			for _, x := range h.Extents {
				e.sparse += fmt.Sprintf(" %d+%d", x.Off, x.Len)
			}
		}
		all = append(all, e)
	}
}

// mustRead reads an archive that is in order, and checks that no chunk stays held.
func mustRead(t *testing.T, data []byte, chunk int) []entry {
	t.Helper()
	src := inChunksOf(data, chunk)
	all, err := readAll(src, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if src.held != 0 {
		t.Fatalf("%d chunks are still held", src.held)
	}
	return all
}
