package tar

import (
	"bytes"
	"math"
)

// GNU tar stores a sparse file as a map of its data regions and then their bytes,
// in four ways (GNU tar manual, "Storing Sparse Files"): in the header block and
// extension blocks (old), as PAX records (0.0, 0.1), or in front of the bytes (1.0).
// In all of them the map must be known before the file can be written, so Next
// reads it whole.

// oldSparse reads the map of a type 'S' header: four regions in the block, each as
// offset and length, and a flag that an extension block follows, with 21 more and
// such a flag. The extension blocks are not part of the entry's size.
func (r *Reader) oldSparse(b *block, form dialect) error {
	if form != gnu {
		return malformed("sparse file, but not GNU's") // star has another layout
	}
	size, ok := number(b.gnuRealSize())
	if !ok {
		return malformed("sparse file's size")
	}
	r.startSparse(size)
	const pair = 12 + 12
	fields := b.gnuSparse()
	for read := int64(len(fields)); ; read += blockSize {
		flag := len(fields) / pair * pair
		for f := fields[:flag]; len(f) > 0 && f[0] != 0; f = f[pair:] {
			off, ok1 := number(f[:12])
			n, ok2 := number(f[12:pair])
			if !ok1 || !ok2 {
				return malformed("sparse map")
			}
			if err := r.addExtent(off, n); err != nil {
				return err
			}
		}
		if fields[flag] == 0 {
			return r.endSparse()
		}
		if read > r.limits.Meta {
			return &LimitError{"bytes of a sparse map", read, r.limits.Meta}
		}
		b, err := r.block()
		if err != nil {
			return noEOF(err)
		}
		fields = b[:]
	}
}

// paxSparse finds out whether the PAX records make the entry a sparse file, and if
// so reads its map.
func (r *Reader) paxSparse() error {
	p := &r.local
	inBody := false
	switch major, minor := string(p.sparseMajor), string(p.sparseMinor); {
	case major == "0" && (minor == "0" || minor == "1"):
	case major == "1" && minor == "0":
		inBody = true
	case major != "" || minor != "":
		return nil // a version to come: a file of which we know no better
	case len(p.sparseMap) == 0:
		return nil
	}
	if len(p.sparseName) > 0 {
		r.hdr.Name = p.sparseName
		if err := r.checkName("bytes of a name", p.sparseName); err != nil {
			return err
		}
	}
	size := r.hdr.Size
	text := p.sparseSize
	if len(text) == 0 {
		text = p.sparseRealSize
	}
	if len(text) > 0 {
		var ok bool
		if size, ok = decimal(text); !ok {
			return malformed("sparse file's size")
		}
	}
	if r.hdr.Type >= TypeLink && r.hdr.Type <= TypeFifo {
		return malformed("sparse, but not a file")
	}
	r.startSparse(size)
	var err error
	if inBody {
		err = r.mapInBody()
	} else {
		err = r.mapInRecords(p.sparseMap, p.sparseBlocks)
	}
	if err != nil {
		return err
	}
	return r.endSparse()
}

// mapInRecords reads the map of formats 0.0 and 0.1: numbers with commas between.
func (r *Reader) mapInRecords(list, count []byte) error {
	want, ok := decimal(count)
	if !ok {
		return malformed("PAX record GNU.sparse.numblocks")
	}
	var got int64
	for more := len(list) > 0; more; got++ {
		var off, n []byte
		off, list, more = bytes.Cut(list, []byte{','})
		if !more {
			return malformed("odd sparse map")
		}
		n, list, more = bytes.Cut(list, []byte{','})
		o, ok1 := decimal(off)
		l, ok2 := decimal(n)
		if !ok1 || !ok2 {
			return malformed("sparse map")
		}
		if err := r.addExtent(o, l); err != nil {
			return err
		}
	}
	if got != want {
		return malformed("sparse map is not as long as it says")
	}
	return nil
}

// mapInBody reads the map of format 1.0 from the blocks in front of the data: the
// number of regions, then their offsets and lengths, each behind it a newline. The
// data begins at the next block.
func (r *Reader) mapInBody() error {
	m := bodyMap{r: r}
	count, err := m.number()
	if err != nil {
		return err
	}
	if count < 0 {
		return malformed("sparse map")
	}
	if count > int64(r.limits.Extents) {
		return &LimitError{"regions of a sparse file", count, int64(r.limits.Extents)}
	}
	for range count {
		off, err := m.number()
		if err != nil {
			return err
		}
		n, err := m.number()
		if err != nil {
			return err
		}
		if err := r.addExtent(off, n); err != nil {
			return err
		}
	}
	return nil
}

// bodyMap reads numbers, one a line, block by block.
type bodyMap struct {
	r    *Reader
	b    *block // good as long as only bodyMap reads
	used int    // bytes of b
	read int64  // bytes of all blocks
	line []byte
}

func (m *bodyMap) number() (int64, error) {
	m.line = m.line[:0]
	for {
		if m.b == nil || m.used == blockSize {
			if err := m.nextBlock(); err != nil {
				return 0, err
			}
		}
		rest := m.b[m.used:]
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			m.line = append(m.line, rest...)
			m.used = blockSize
			continue
		}
		m.line = append(m.line, rest[:i]...)
		m.used += i + 1
		n, ok := decimal(m.line)
		if !ok {
			return 0, malformed("sparse map")
		}
		return n, nil
	}
}

func (m *bodyMap) nextBlock() error {
	r := m.r
	if r.left < blockSize {
		return malformed("sparse map is cut short")
	}
	if m.read += blockSize; m.read > r.limits.Meta {
		return &LimitError{"bytes of a sparse map", m.read, r.limits.Meta}
	}
	b, err := r.block()
	if err != nil {
		return noEOF(err)
	}
	r.left -= blockSize
	m.b, m.used = b, 0
	return nil
}

func (r *Reader) startSparse(size int64) {
	r.extents = r.extents[:0]
	r.hdr.Sparse, r.hdr.Size = true, size
}

// addExtent takes one region of the map, in the order of the file.
func (r *Reader) addExtent(off, n int64) error {
	var end int64
	if last := len(r.extents) - 1; last >= 0 {
		end = r.extents[last].Off + r.extents[last].Len
	}
	if off < end || n < 0 || off > math.MaxInt64-n || off+n > r.hdr.Size {
		return malformed("sparse map")
	}
	if len(r.extents) >= r.limits.Extents {
		return &LimitError{"regions of a sparse file", int64(len(r.extents)) + 1, int64(r.limits.Extents)}
	}
	r.extents = append(r.extents, Extent{off, n})
	return nil
}

// endSparse drops the empty regions, with which writers mark the end of a file, and
// checks that the entry's body is just the bytes that the map places.
func (r *Reader) endSparse() error {
	if r.hdr.Size < 0 {
		return malformed("sparse file's size")
	}
	kept, stored := r.extents[:0], int64(0)
	for _, e := range r.extents {
		if e.Len > 0 {
			kept = append(kept, e)
			stored += e.Len
		}
	}
	r.extents = kept
	if stored != r.left {
		return malformed("sparse map and stored bytes differ")
	}
	r.hdr.Extents = kept
	return nil
}
