package tar

import (
	"bytes"
	"time"
)

// records is what the records of an extended header say, as far as it matters
// here. A nil value was not mentioned. An empty one deletes: what the global
// headers say does not count, and the header block's own field does (POSIX says
// not even that, but all readers do it so).
type records struct {
	set bool // there is any record

	path, linkpath, size, uid, gid, mtime, atime []byte

	sparseMajor, sparseMinor, sparseName, sparseMap []byte
	sparseSize, sparseRealSize, sparseBlocks        []byte

	// Format 0.0 has one record for each number of its map; they are joined
	// here with commas, which makes it 0.1's map.
	sparsePairs []byte
	sparseCount int

	xattrs     []xattrRecord // by name, each once
	xattrBytes int           // of all their names and values
}

// xattrRecord is an extended attribute and which of the two spellings it had.
type xattrRecord struct {
	Xattr
	libarchive bool
}

func (p *records) reset() {
	*p = records{xattrs: p.xattrs[:0], sparsePairs: p.sparsePairs[:0]}
}

// The values of records that reset to nothing, told from nil by not being nil.
var deleted = []byte{}

// field is where the value of a record that we know goes.
func (p *records) field(key []byte) *[]byte {
	switch string(key) {
	case "path":
		return &p.path
	case "linkpath":
		return &p.linkpath
	case "size":
		return &p.size
	case "uid":
		return &p.uid
	case "gid":
		return &p.gid
	case "mtime":
		return &p.mtime
	case "atime":
		return &p.atime
	case "GNU.sparse.major":
		return &p.sparseMajor
	case "GNU.sparse.minor":
		return &p.sparseMinor
	case "GNU.sparse.name":
		return &p.sparseName
	case "GNU.sparse.map":
		return &p.sparseMap
	case "GNU.sparse.size":
		return &p.sparseSize
	case "GNU.sparse.realsize":
		return &p.sparseRealSize
	case "GNU.sparse.numblocks":
		return &p.sparseBlocks
	}
	return nil
}

// parse takes in the body of an extended header; values point into it. Of records
// with the same keyword the last one counts.
func (p *records) parse(body []byte, l *Limits) error {
	for len(body) > 0 {
		key, value, rest, ok := cutRecord(body)
		if !ok {
			return malformed("PAX record")
		}
		body = rest
		p.set = true
		if len(value) == 0 {
			value = deleted
		}
		if f := p.field(key); f != nil {
			*f = value
		} else if isXattr(key) {
			if err := p.addXattr(key, value, l); err != nil {
				return err
			}
		} else if err := p.addSparsePair(key, value); err != nil {
			return err
		}
	}
	if p.sparseCount > 0 {
		p.sparseMap = p.sparsePairs
	}
	return nil
}

// cutRecord takes the first record, "LENGTH KEY=VALUE\n", off the body of an
// extended header. LENGTH counts the whole record, itself included.
func cutRecord(body []byte) (key, value, rest []byte, ok bool) {
	length, _, found := bytes.Cut(body, []byte{' '})
	n, isNumber := decimal(length)
	if !found || !isNumber || n < 5 || n > int64(len(body)) || n <= int64(len(length)+1) {
		return nil, nil, nil, false
	}
	record, rest := body[len(length)+1:n-1], body[n:]
	key, value, found = bytes.Cut(record, []byte{'='})
	if !found || len(key) == 0 || body[n-1] != '\n' {
		return nil, nil, nil, false
	}
	switch string(key) {
	case "path", "linkpath", "uname", "gname":
		ok = bytes.IndexByte(value, 0) < 0
	default:
		ok = bytes.IndexByte(key, 0) < 0
	}
	return key, value, rest, ok
}

// addSparsePair takes one number of a 0.0 map. They come in pairs, in order.
func (p *records) addSparsePair(key, value []byte) error {
	var second int
	switch string(key) {
	case "GNU.sparse.offset":
	case "GNU.sparse.numbytes":
		second = 1
	default:
		return nil // a record that says nothing to us
	}
	if p.sparseCount%2 != second || bytes.IndexByte(value, ',') >= 0 {
		return malformed("PAX record " + string(key))
	}
	if p.sparseCount > 0 {
		p.sparsePairs = append(p.sparsePairs, ',')
	}
	p.sparsePairs = append(p.sparsePairs, value...)
	p.sparseCount++
	return nil
}

// addGlobal takes a global header's records over those of the ones before.
func (r *Reader) addGlobal(body []byte) error {
	var p records
	if err := p.parse(body, &r.limits); err != nil {
		return err
	}
	if p.namesOneFile() {
		return malformed("global header with a record that only one file can have")
	}
	g := &r.global
	for _, f := range [...]struct{ to, from *[]byte }{
		{&g.uid, &p.uid}, {&g.gid, &p.gid}, {&g.mtime, &p.mtime}, {&g.atime, &p.atime},
	} {
		if *f.from != nil {
			*f.to = append([]byte{}, *f.from...) // the buffer will be used again
			g.set = true
		}
	}
	return nil
}

// namesOneFile tells whether there are records that tell one file from others. An
// extended attribute is among them: attached to every entry, one of 64 KiB would
// turn an archive of empty files into a full disk.
func (p *records) namesOneFile() bool {
	for _, f := range [...][]byte{
		p.path, p.linkpath, p.size, p.sparseMajor, p.sparseMinor, p.sparseName,
		p.sparseMap, p.sparseSize, p.sparseRealSize, p.sparseBlocks,
	} {
		if f != nil {
			return true
		}
	}
	return len(p.xattrs) > 0
}

// applyPAX overrides what the header block said about size, owner and times, and
// sets the extended attributes. Names are the business of names.
func (r *Reader) applyPAX(size *int64) error {
	h, l, g := &r.hdr, &r.local, &r.global
	switch {
	case !override(size, l.size, nil, decimal):
		return malformed("PAX record size")
	case !override(&h.UID, l.uid, g.uid, decimal):
		return malformed("PAX record uid")
	case !override(&h.GID, l.gid, g.gid, decimal):
		return malformed("PAX record gid")
	case !override(&h.ModTime, l.mtime, g.mtime, paxTime):
		return malformed("PAX record mtime")
	case !override(&h.AccessTime, l.atime, g.atime, paxTime):
		return malformed("PAX record atime")
	}
	r.xattrs = r.xattrs[:0]
	for _, x := range l.xattrs {
		if len(x.Value) > 0 {
			r.xattrs = append(r.xattrs, x.Xattr)
		}
	}
	h.Xattrs = r.xattrs
	return nil
}

// override sets a field from a record, if there is one with a value: the entry's
// own, or else a global one.
func override[T any](field *T, local, global []byte, parse func([]byte) (T, bool)) (ok bool) {
	value := local
	if value == nil {
		value = global
	}
	if len(value) == 0 {
		return true
	}
	*field, ok = parse(value)
	return ok
}

// paxTime reads seconds since the epoch with an optional fraction, whose digits
// beyond nanoseconds are dropped. A minus sign goes for the fraction too.
func paxTime(s []byte) (time.Time, bool) {
	whole, fraction, _ := bytes.Cut(s, []byte{'.'})
	sec, ok := decimal(whole)
	if !ok {
		return time.Time{}, false
	}
	nsec, unit := int64(0), int64(time.Second)
	for _, c := range fraction {
		if c < '0' || c > '9' {
			return time.Time{}, false
		}
		unit /= 10
		nsec += unit * int64(c-'0')
	}
	if whole[0] == '-' {
		nsec = -nsec
	}
	return time.Unix(sec, nsec), true
}
