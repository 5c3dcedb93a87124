package gzip

import (
	"hash/crc32"
	"io"
	"time"

	"peel/pkg/layers/inflate"
)

// RFC 1952 2.3.1.
const (
	id1, id2 = 0x1f, 0x8b
	deflate  = 8

	flagHeaderCRC = 1 << 1
	flagExtra     = 1 << 2
	flagName      = 1 << 3
	flagComment   = 1 << 4
	flagReserved  = 0xe0 // "must be zero"; bit 0, FTEXT, is only a hint
)

// maxString is the longest name or comment that is read. The RFC sets no limit.
const maxString = 64 << 10

// header reads a member's header byte by byte, and sums it up for FHCRC.
type header struct {
	in  *inflate.Input
	crc uint32
	err error // the first; bytes read as zero after it
}

func (h *header) add(b byte) byte {
	h.crc = crc32.IEEETable[byte(h.crc)^b] ^ h.crc>>8
	return b
}

func (h *header) byte() byte {
	if h.err != nil {
		return 0
	}
	b, err := h.in.ReadByte()
	if err != nil {
		h.err = noEOF(err)
		return 0
	}
	return h.add(b)
}

func (h *header) uint16() uint16 { return uint16(h.byte()) | uint16(h.byte())<<8 }
func (h *header) uint32() uint32 { return uint32(h.uint16()) | uint32(h.uint16())<<16 }

// text reads a string that ends with a zero byte, from Latin-1 (RFC 1952 2.3.1).
func (h *header) text(keep bool) string {
	var s []rune
	for n := 0; ; n++ {
		b := h.byte()
		switch {
		case b == 0:
			return string(s)
		case n == maxString:
			h.fail("name or comment too long")
			return ""
		case keep:
			s = append(s, rune(b))
		}
	}
}

func (h *header) fail(reason string) {
	if h.err == nil {
		h.err = &HeaderError{Reason: reason, Offset: h.in.Offset()}
	}
}

// begin reads a header, into to unless that is nil, and makes ready for the
// member's contents. It returns io.EOF where the input has ended.
func (z *Reader) begin(to *Header) error {
	b, err := z.in.ReadByte()
	if err != nil {
		return err
	}
	return z.beginAfter(b, to)
}

// beginAfter is begin when the header's first byte has been read.
func (z *Reader) beginAfter(first byte, to *Header) error {
	h := header{in: &z.in, crc: ^uint32(0)}
	h.add(first)
	if first != id1 || h.byte() != id2 {
		h.fail("not gzip's magic number")
	}
	if h.byte() != deflate {
		h.fail("unknown compression method")
	}
	flags := h.byte()
	if flags&flagReserved != 0 {
		h.fail("reserved flags are set")
	}
	var got Header
	if t := h.uint32(); t != 0 {
		got.ModTime = time.Unix(int64(t), 0)
	}
	h.byte() // XFL tells how hard the compressor tried
	got.OS = h.byte()
	if flags&flagExtra != 0 {
		n := h.uint16()
		if to != nil && h.err == nil {
			got.Extra = make([]byte, 0, n)
		}
		for range n {
			if b := h.byte(); to != nil {
				got.Extra = append(got.Extra, b)
			}
		}
	}
	if flags&flagName != 0 {
		got.Name = h.text(to != nil)
	}
	if flags&flagComment != 0 {
		got.Comment = h.text(to != nil)
	}
	if flags&flagHeaderCRC != 0 {
		sum := uint16(^h.crc)
		if h.uint16() != sum {
			h.fail("header checksum is wrong")
		}
	}
	if h.err != nil {
		return h.err
	}
	if to != nil {
		*to = got
	}
	z.crc, z.size = 0, 0
	z.member.Reset(&z.in)
	return nil
}

var _ io.WriterTo = (*Reader)(nil)
