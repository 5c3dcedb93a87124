package tar

import (
	"bytes"
	"encoding/base64"
)

// Extended attributes travel as PAX records of one of two spellings: star's, with
// name and value as they are, which everybody reads; and libarchive's, with the
// name URL-encoded and the value in base64. bsdtar writes both.
var (
	schilyXattr     = []byte("SCHILY.xattr.")
	libarchiveXattr = []byte("LIBARCHIVE.xattr.")
)

func isXattr(key []byte) bool {
	return bytes.HasPrefix(key, schilyXattr) || bytes.HasPrefix(key, libarchiveXattr)
}

// addXattr takes in the record of an attribute. A later record replaces an earlier
// one, but libarchive's spelling never star's. One with no value takes the
// attribute away, like any other record: archive/tar reads it so, too.
func (p *records) addXattr(key, value []byte, l *Limits) error {
	x := xattrRecord{Xattr: Xattr{Value: value}}
	x.Name, x.libarchive = bytes.CutPrefix(key, libarchiveXattr)
	if x.libarchive {
		var ok bool
		if x.Name, x.Value, ok = decodeXattr(x.Name, value); !ok {
			return malformed("PAX record " + string(key))
		}
	} else {
		x.Name = key[len(schilyXattr):]
	}
	for i := range p.xattrs {
		if old := &p.xattrs[i]; bytes.Equal(old.Name, x.Name) {
			if old.libarchive || !x.libarchive {
				p.xattrBytes += len(x.Value) - len(old.Value)
				*old = x
			}
			return p.checkXattr(x, l)
		}
	}
	p.xattrs = append(p.xattrs, x)
	p.xattrBytes += len(x.Name) + len(x.Value)
	return p.checkXattr(x, l)
}

func (p *records) checkXattr(x xattrRecord, l *Limits) error {
	for _, c := range [...]struct {
		what       string
		got, limit int
	}{
		{"extended attributes", len(p.xattrs), l.Xattrs},
		{"bytes of an extended attribute's name", len(x.Name), l.XattrName},
		{"bytes of an extended attribute's value", len(x.Value), l.XattrValue},
		{"bytes of extended attributes", p.xattrBytes, l.XattrTotal},
	} {
		if c.got > c.limit {
			return &LimitError{c.what, int64(c.got), int64(c.limit)}
		}
	}
	return nil
}

// decodeXattr undoes libarchive's encodings. It pads base64 or does not, by version.
func decodeXattr(name, value []byte) (n, v []byte, ok bool) {
	n = make([]byte, 0, len(name))
	for i := 0; i < len(name); i++ {
		c := name[i]
		if c == '%' {
			if i+2 >= len(name) {
				return nil, nil, false
			}
			hi, lo := hex(name[i+1]), hex(name[i+2])
			if hi < 0 || lo < 0 {
				return nil, nil, false
			}
			c = byte(hi<<4 | lo)
			i += 2
		}
		if c == 0 {
			return nil, nil, false
		}
		n = append(n, c)
	}
	v, err := base64.RawStdEncoding.AppendDecode([]byte{}, bytes.TrimRight(value, "="))
	return n, v, err == nil
}

func hex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
