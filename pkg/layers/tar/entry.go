package tar

import (
	"bytes"
	"io"
	"time"
)

// entry reads header blocks up to the one of an entry proper.
func (r *Reader) entry() error {
	var own bool // there was an extended header or long name for what comes next
	for {
		r.hdr.Offset = r.off
		b, err := r.header()
		if err != nil {
			return err
		}
		kind := b.typeFlag()
		if kind != 'x' && kind != 'g' && kind != 'L' && kind != 'K' {
			return r.decode(b)
		}
		if kind == 'g' && own {
			return malformed("global header between an entry and its own extended header")
		}
		own = own || kind != 'g'
		if err := r.meta(b, kind); err != nil {
			return err
		}
		if err := r.skipBody(); err != nil { // its padding
			return err
		}
	}
}

// header returns the next header block, its checksum verified, and io.EOF for the
// archive's end: two zero blocks, or one, or none and no more bytes at all.
func (r *Reader) header() (*block, error) {
	b, err := r.block()
	if err != nil {
		return nil, err
	}
	sum := b.sum()
	if sum == 0 {
		if b, err = r.block(); err != nil {
			return nil, err
		}
		if b.sum() == 0 {
			return nil, io.EOF
		}
		return nil, malformed("one zero block, then another")
	}
	if r.headers++; r.headers > r.limits.Headers {
		return nil, &LimitError{"header blocks", r.headers, r.limits.Headers}
	}
	if !b.checksumOK(sum) {
		return nil, malformed("checksum")
	}
	return b, nil
}

// meta reads the body of a header that describes what comes behind it. A second
// one of the same kind takes the place of the first.
func (r *Reader) meta(b *block, kind byte) error {
	size, ok := number(b.size())
	if !ok || size < 0 {
		return malformed("size")
	}
	if size > r.limits.Meta {
		return &LimitError{"bytes of an extended header", size, r.limits.Meta}
	}
	if err := r.expect(size); err != nil {
		return err
	}
	r.left, r.pad = 0, padding(size)
	var err error
	switch kind {
	case 'L':
		r.longName, err = r.read(r.longName, size)
		r.longName = text(r.longName)
	case 'K':
		r.longLink, err = r.read(r.longLink, size)
		r.longLink = text(r.longLink)
	case 'g':
		if r.pax, err = r.read(r.pax, size); err == nil {
			err = r.addGlobal(r.pax)
		}
	default:
		if r.pax, err = r.read(r.pax, size); err == nil {
			r.local.reset()
			err = r.local.parse(r.pax, &r.limits)
		}
	}
	return err
}

// expect checks that a body of n bytes keeps the archive within its limit.
func (r *Reader) expect(n int64) error {
	if n > r.limits.Total-r.off {
		return &LimitError{"bytes of archive", r.off + min(n, 1<<62), r.limits.Total}
	}
	return nil
}

func padding(n int64) int64 { return -n & (blockSize - 1) }

// decode reads the header block of an entry proper, with what its extended headers
// override, and makes its body the one that Piece hands out.
func (r *Reader) decode(b *block) error {
	h, f, form := &r.hdr, fields{}, b.dialect()
	if err := r.names(b, r.times(b, form, &f)); err != nil {
		return err
	}
	h.Type = b.typeFlag()
	h.Mode = uint32(f.number("mode", b.mode()) & 0o7777)
	h.UID = f.number("uid", b.uid())
	h.GID = f.number("gid", b.gid())
	size := f.number("size", b.size())
	if (h.Type == TypeChar || h.Type == TypeBlock) && form != v7 {
		h.Major = f.number("device number", b.major())
		h.Minor = f.number("device number", b.minor())
	}
	if f.bad != "" {
		return malformed(f.bad)
	}
	if r.local.set || r.global.set {
		if err := r.applyPAX(&size); err != nil {
			return err
		}
	}

	switch h.Type {
	case TypeLink, TypeSymlink, TypeChar, TypeBlock, TypeDir, TypeFifo:
		size = 0
	case '7':
		h.Type = TypeReg
	case 0:
		h.Type = TypeReg
		// V7 had no type for directories, but a slash behind their names.
		if bytes.HasSuffix(h.Name, []byte{'/'}) {
			h.Type, size = TypeDir, 0
		}
	}
	if size < 0 {
		return malformed("size")
	}
	if err := r.expect(size); err != nil {
		return err
	}
	h.Size, r.left, r.pad = size, size, padding(size)

	var err error
	if h.Type == 'S' {
		h.Type = TypeReg
		err = r.oldSparse(b, form)
	} else if r.local.set {
		err = r.paxSparse()
	}
	h.BodyOffset = r.off
	return err
}

// fields reads numeric fields and remembers the first that is malformed.
type fields struct{ bad string }

func (f *fields) number(what string, field []byte) int64 {
	n, ok := number(field)
	if !ok && f.bad == "" {
		f.bad = what
	}
	return n
}

// times reads the times of the header block and, because in one case it depends on
// them, the prefix of the name.
func (r *Reader) times(b *block, form dialect, f *fields) (prefix []byte) {
	r.hdr.ModTime = time.Unix(f.number("mtime", b.mtime()), 0)
	switch form {
	case ustar:
		return text(b.ustarPrefix())
	case star:
		r.hdr.AccessTime = time.Unix(f.number("atime", b.starAtime()), 0)
		return text(b.starPrefix())
	case gnu:
		atime, okA := number(b.gnuAtime())
		_, okC := number(b.gnuCtime())
		noA, noC := b.gnuAtime()[0] == 0, b.gnuCtime()[0] == 0
		if !(okA || noA) || !(okC || noC) {
			// Go before 1.8 wrote a prefix where GNU has its times.
			if p := text(b.ustarPrefix()); isASCII(p) {
				return p
			}
		} else if !noA {
			r.hdr.AccessTime = time.Unix(atime, 0)
		}
	}
	return nil
}

func isASCII(s []byte) bool {
	for _, c := range s {
		if c >= 0x80 {
			return false
		}
	}
	return true
}

// names finds the entry's name and link target. What comes from the header block
// is copied, because the block may be gone before the entry is.
func (r *Reader) names(b *block, prefix []byte) error {
	switch {
	case len(r.longName) > 0:
		r.hdr.Name = r.longName
	case len(r.local.path) > 0:
		r.hdr.Name = r.local.path
	default:
		r.name = r.name[:0]
		if len(prefix) > 0 {
			r.name = append(append(r.name, prefix...), '/')
		}
		r.name = append(r.name, text(b.name())...)
		r.hdr.Name = r.name
	}
	switch {
	case len(r.longLink) > 0:
		r.hdr.Linkname = r.longLink
	case len(r.local.linkpath) > 0:
		r.hdr.Linkname = r.local.linkpath
	case b.linkname()[0] != 0:
		r.link = append(r.link[:0], text(b.linkname())...)
		r.hdr.Linkname = r.link
	}
	if err := r.checkName("bytes of a name", r.hdr.Name); err != nil {
		return err
	}
	return r.checkName("bytes of a link's target", r.hdr.Linkname)
}

func (r *Reader) checkName(what string, name []byte) error {
	if len(name) > r.limits.Name {
		return &LimitError{what, int64(len(name)), int64(r.limits.Name)}
	}
	return nil
}
