package export

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

var long = strings.Repeat("x", 99)

func TestEncode(t *testing.T) {
	for _, tc := range []struct {
		claim  string
		h      header
		blocks int // of 512 bytes: one means that no extended header was needed
	}{
		{"a file fits one block", header{name: []byte("etc/passwd"), typ: typeReg, mode: 0o4755, uid: 1, gid: 2, size: 3, sec: 4}, 1},
		{"a name of 100 bytes fits", header{name: []byte(long + "y"), typ: typeReg}, 1},
		{"a name of 101 bytes without a slash does not", header{name: []byte(long + "yz"), typ: typeReg}, 3},
		{"a longer one is split at a slash", header{name: []byte("dir/" + long), typ: typeReg}, 1},
		{"at the first that leaves no more than 100", header{name: []byte("a/b/c/" + long[:97]), typ: typeReg}, 1},
		{"both parts full", header{name: []byte(strings.Repeat("p", 155) + "/" + long + "y"), typ: typeReg}, 1},
		{"a first part of 156 bytes does not fit", header{name: []byte(strings.Repeat("p", 156) + "/" + long), typ: typeReg}, 3},
		{"a directory's own slash is no place to split", header{name: []byte(long + "yz/"), typ: typeDir}, 3},
		{"a directory's slash counts", header{name: []byte(long + "/"), typ: typeDir}, 1},
		{"a short name of other bytes than UTF-8 is just bytes", header{name: []byte("caf\xe9"), typ: typeReg}, 1},
		{"so is a long one", header{name: []byte(long + "caf\xe9"), typ: typeReg}, 3},
		{"a link's target of 100 bytes fits", header{name: []byte("l"), link: []byte(long + "y"), typ: typeSymlink}, 1},
		{"one of 101 does not", header{name: []byte("l"), link: []byte(long + "\xff\xfe"), typ: typeSymlink}, 3},
		{"a hard link", header{name: []byte("b"), link: []byte("a"), typ: typeLink}, 1},
		{"a device", header{name: []byte("sda"), typ: typeBlock, major: 4095, minor: 1<<20 - 1}, 1},
		{"a fifo", header{name: []byte("f"), typ: typeFifo, mode: 0o600}, 1},
		{"the largest ids of the block", header{name: []byte("f"), typ: typeReg, uid: maxOctal8, gid: maxOctal8}, 1},
		{"a larger uid", header{name: []byte("f"), typ: typeReg, uid: maxOctal8 + 1}, 3},
		{"a larger gid", header{name: []byte("f"), typ: typeReg, gid: math.MaxUint32 - 1}, 3},
		{"the largest size of the block", header{name: []byte("f"), typ: typeReg, size: maxOctal12}, 1},
		{"a larger size", header{name: []byte("f"), typ: typeReg, size: maxOctal12 + 1}, 3},
		{"the last second of the block", header{name: []byte("f"), typ: typeReg, sec: maxOctal12}, 1},
		{"a later second", header{name: []byte("f"), typ: typeReg, sec: maxOctal12 + 1}, 3},
		{"before 1970", header{name: []byte("f"), typ: typeReg, sec: -1}, 3},
		{"a nanosecond", header{name: []byte("f"), typ: typeReg, sec: 1, nsec: 1}, 3},
		{"half a second before 1970", header{name: []byte("f"), typ: typeReg, sec: -1, nsec: 5e8}, 3},
		{"more than that", header{name: []byte("f"), typ: typeReg, sec: -3, nsec: 5e8}, 3},
		{"attributes of any bytes", header{name: []byte("f"), typ: typeReg, xattrs: []xattr{
			{[]byte("security.capability"), []byte("\x01\x00\n=\xff")},
			{[]byte("user.e"), []byte("v")},
		}}, 3},
		{"an extended header of more than a block", header{name: []byte("f"), typ: typeReg, xattrs: []xattr{
			{[]byte("user.a"), bytes.Repeat([]byte{0}, 1000)},
		}}, 5},
		{"everything at once", header{name: []byte(strings.Repeat("p/", 300)), link: nil, typ: typeDir, mode: 0o7777,
			uid: 1 << 30, gid: 1 << 31, sec: -5, nsec: 999999999, xattrs: []xattr{{[]byte("user.a"), []byte("b")}}}, 4},
	} {
		t.Run(tc.claim, func(t *testing.T) {
			var e encoder
			b := e.encode(&tc.h)
			if len(b) != tc.blocks*blockSize {
				t.Errorf("%d bytes, want %d blocks", len(b), tc.blocks)
			}
			if err := sameAsArchiveTar(&tc.h, b); err != nil {
				t.Error(err)
			}
		})
	}
}

// sameAsArchiveTar decodes b with the standard library and compares.
func sameAsArchiveTar(h *header, b []byte) error {
	got, err := tar.NewReader(bytes.NewReader(b)).Next()
	if err != nil {
		return err
	}
	want := tar.Header{
		Typeflag: h.typ,
		Name:     string(h.name),
		Linkname: string(h.link),
		Mode:     int64(h.mode),
		Uid:      int(h.uid),
		Gid:      int(h.gid),
		Size:     h.size,
		ModTime:  time.Unix(h.sec, int64(h.nsec)),
		Devmajor: int64(h.major),
		Devminor: int64(h.minor),
	}
	if g, w := describeHeader(got), describeHeader(&want); g != w {
		return fmt.Errorf("archive/tar reads\n %s, want\n %s", g, w)
	}
	n := 0
	for key := range got.PAXRecords {
		if strings.HasPrefix(key, "SCHILY.xattr.") {
			n++
		}
	}
	if n != len(h.xattrs) {
		return fmt.Errorf("archive/tar reads %d attributes, want %d", n, len(h.xattrs))
	}
	for _, x := range h.xattrs {
		if v := got.PAXRecords["SCHILY.xattr."+string(x.name)]; v != string(x.value) {
			return fmt.Errorf("attribute %s = %q, want %q", x.name, v, x.value)
		}
	}
	return nil
}

func describeHeader(h *tar.Header) string {
	return fmt.Sprintf("%c %q -> %q mode %o owner %d:%d size %d at %d dev %d:%d",
		h.Typeflag, h.Name, h.Linkname, h.Mode, h.Uid, h.Gid, h.Size, h.ModTime.UnixNano(), h.Devmajor, h.Devminor)
}

func TestEncodeAnythingAsArchiveTarReadsIt(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	text := func(max int) []byte {
		b := make([]byte, 1+r.IntN(max))
		for i := range b {
			b[i] = byte(1 + r.IntN(255))
			if r.IntN(8) == 0 {
				b[i] = '/'
			}
		}
		b[0], b[len(b)-1] = 'a', 'z' // archive/tar makes a directory of "file/"
		return b
	}
	var e encoder
	for range 5000 {
		h := header{
			name:  text(300),
			typ:   "012345"[r.IntN(6)],
			mode:  uint32(r.IntN(0o10000)),
			uid:   r.Uint32() >> r.IntN(32),
			gid:   r.Uint32() >> r.IntN(32),
			sec:   r.Int64()>>(28+r.IntN(36)) - int64(r.IntN(2)),
			major: uint32(r.IntN(4096)),
			minor: uint32(r.IntN(1 << 20)),
		}
		switch h.typ {
		case typeReg:
			h.size = r.Int64() >> r.IntN(63)
		case typeLink, typeSymlink:
			h.link = text(200)
		}
		if h.typ != typeChar && h.typ != typeBlock {
			h.major, h.minor = 0, 0
		}
		if r.IntN(2) == 0 {
			h.nsec = uint32(r.IntN(1e9))
		}
		if r.IntN(3) == 0 {
			h.xattrs = []xattr{{[]byte("user." + strings.Repeat("n", r.IntN(100))), text(1200)}}
		}
		if err := sameAsArchiveTar(&h, e.encode(&h)); err != nil {
			t.Fatalf("%+v: %v", h, err)
		}
	}
}

func TestSparseMapIsThatOfGNUTar(t *testing.T) {
	h := header{name: []byte("var/log/lastlog"), typ: typeReg, mode: 0o644, size: 10000, sparse: []extent{{4096, 3}, {10000, 0}}}
	var e encoder
	b := append(bytes.Clone(e.encode(&h)), "abc"...)
	b = append(b, make([]byte, blockSize-3+2*blockSize)...)

	r := tar.NewReader(bytes.NewReader(b))
	got, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	if got.Name != "var/log/lastlog" || got.Size != 10000 {
		t.Errorf("archive/tar reads %q of %d bytes", got.Name, got.Size)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 10000)
	copy(want[4096:], "abc")
	if !bytes.Equal(data, want) {
		t.Error("archive/tar reads other data")
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("then %v, want the end", err)
	}
}

// The length of a record counts its own digits, which is where encoders go wrong.
func TestRecordsNameTheirLength(t *testing.T) {
	for n := range 10100 {
		var e encoder
		e.record("k", nil, bytes.Repeat([]byte{'v'}, n))
		var said int
		fmt.Sscan(string(e.records), &said)
		if said != len(e.records) {
			t.Fatalf("a record of %d bytes says %d", len(e.records), said)
		}
	}
}

func TestSumOfFullBlock(t *testing.T) {
	if got := sum(bytes.Repeat([]byte{255}, blockSize)); got != 255*blockSize {
		t.Errorf("sum = %d, want %d", got, 255*blockSize)
	}
}
