package tar

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"peel/pkg/layers"
)

func TestRefusedHeaders(t *testing.T) {
	x := func(records ...string) []byte { return archive(pax('x', records...), file("f", "")) }
	for _, c := range []struct {
		claim   string
		archive []byte
		says    string
	}{
		{"a wrong checksum", archive(raw{name: "f", sum: func(s uint) string { return fmt.Sprintf("%06o\x00 ", s+1) }}.String()), "checksum"},
		{"a checksum of no digits", archive(raw{name: "f", sum: func(uint) string { return "checksum" }}.String()), "checksum"},
		{"garbage", []byte(strings.Repeat("garbage!", 64)), "checksum"},
		{"a zero block and then another", append(make([]byte, 512), file("f", "")...), "one zero block"},
		{"a digit that is not octal", archive(raw{name: "f", uid: "0000008"}.String()), "uid"},
		{"digits behind a space", archive(raw{name: "f", gid: "1 2"}.String()), "gid"},
		{"a negative size", archive(raw{name: "f", size: "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"}.String()), "size"},
		{"a negative size in PAX", archive(pax('x', "size=-1"), file("f", "")), "size"},
		{"a negative size of an extended header", archive(raw{typ: 'x', size: "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"}.String()), "size"},
		{"base-256 beyond 64 bits", archive(raw{name: "f", mtime: "\x80\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}.String()), "mtime"},
		{"base-256 of 64 bits", archive(raw{name: "f", mtime: "\x80\x00\x00\x00\x80\x00\x00\x00\x00\x00\x00\x00"}.String()), "mtime"},
		{"a device without a number", archive(raw{name: "c", typ: '3', major: "junk"}.String()), "device number"},

		{"a record longer than the header", archive(special('x', "99 path=p\n"), file("f", "")), "PAX record"},
		{"a record of no length", archive(special('x', "path=p\n"), file("f", "")), "PAX record"},
		{"a record shorter than its length field", archive(special('x', "2 path=p\n"), file("f", "")), "PAX record"},
		{"a record without a newline", archive(special('x', "9 path=pp"), file("f", "")), "PAX record"},
		{"a record without a value", archive(special('x', "7 path\n"), file("f", "")), "PAX record"},
		{"a record without a key", archive(special('x', "6 =pp\n"), file("f", "")), "PAX record"},
		{"a NUL in a path", x("path=a\x00b"), "PAX record"},
		{"a NUL in a key", x("a\x00b=c"), "PAX record"},
		{"a uid that is no number", x("uid=root"), "PAX record uid"},
		{"a uid beyond 64 bits", x("uid=9223372036854775808"), "PAX record uid"},
		{"a time that is no number", x("mtime=1.2.3"), "PAX record mtime"},
		{"a time without seconds", x("mtime=.5"), "PAX record mtime"},
		{"a LIBARCHIVE value that is not base64", x("LIBARCHIVE.xattr.user.a=*"), "LIBARCHIVE.xattr.user.a"},
		{"a LIBARCHIVE name with a NUL", x("LIBARCHIVE.xattr.user.%00=eA"), "LIBARCHIVE"},
		{"a LIBARCHIVE name that breaks off", x("LIBARCHIVE.xattr.user.%0=eA"), "LIBARCHIVE"},

		{"a path for all entries", archive(pax('g', "path=p"), file("f", "")), "only one file"},
		{"a size for all entries", archive(pax('g', "size=3"), file("f", "")), "only one file"},
		{"an extended attribute for all entries", archive(pax('g', "SCHILY.xattr.user.a=b"), file("f", "")), "only one file"},
		{"a sparse map for all entries", archive(pax('g', "GNU.sparse.map=0,1"), file("f", "")), "only one file"},
		{"a global header inside an entry", archive(pax('x', "path=p"), pax('g', "uid=1"), file("f", "")), "global header between"},

		{"sparse regions out of order", x("GNU.sparse.map=4,1,0,1", "GNU.sparse.size=9", "GNU.sparse.numblocks=2"), "sparse map"},
		{"sparse regions that overlap", x("GNU.sparse.map=0,2,1,1", "GNU.sparse.size=9", "GNU.sparse.numblocks=2"), "sparse map"},
		{"a sparse region behind the end", x("GNU.sparse.map=8,2", "GNU.sparse.size=9", "GNU.sparse.numblocks=1"), "sparse map"},
		{"a sparse region of negative length", x("GNU.sparse.map=8,-2", "GNU.sparse.size=9", "GNU.sparse.numblocks=1"), "sparse map"},
		{"a sparse region whose end overflows", x("GNU.sparse.map=9223372036854775807,1", "GNU.sparse.size=9", "GNU.sparse.numblocks=1"), "sparse map"},
		{"a sparse map of three numbers", x("GNU.sparse.map=0,1,2", "GNU.sparse.size=9", "GNU.sparse.numblocks=1"), "odd"},
		{"a sparse map of another length", x("GNU.sparse.map=0,1", "GNU.sparse.size=9", "GNU.sparse.numblocks=2"), "not as long"},
		{"a sparse map of words", x("GNU.sparse.map=a,b", "GNU.sparse.size=9", "GNU.sparse.numblocks=1"), "sparse map"},
		{"a sparse file of negative size", x("GNU.sparse.major=0", "GNU.sparse.minor=0", "GNU.sparse.size=-9", "GNU.sparse.numblocks=0"), "size"},
		{"sparse bytes that the map does not place", archive(pax('x', "GNU.sparse.map=0,1", "GNU.sparse.size=9", "GNU.sparse.numblocks=1"), file("f", "ab")), "differ"},
		{"sparse bytes missing", x("GNU.sparse.map=0,1", "GNU.sparse.size=9", "GNU.sparse.numblocks=1"), "differ"},
		{"0.0 pairs out of order", x("GNU.sparse.numbytes=1", "GNU.sparse.offset=1"), "GNU.sparse.numbytes"},
		{"0.0 numbers that smuggle in more", x("GNU.sparse.offset=1,1"), "GNU.sparse.offset"},
		{"a 1.0 map longer than its file", archive(pax('x', "GNU.sparse.major=1", "GNU.sparse.minor=0"), file("f", body("2\n1\n1\n"))), "cut short"},
		{"a 1.0 map of negative length", archive(pax('x', "GNU.sparse.major=1", "GNU.sparse.minor=0"), file("f", body("-1\n"))), "sparse map"},
		{"a sparse directory", archive(pax('x', "GNU.sparse.map=0,0", "GNU.sparse.numblocks=1"), raw{name: "d", typ: '5'}.String()), "not a file"},
		{"star's sparse files", archive(raw{name: "f", typ: 'S'}.String()), "not GNU's"},
		{"an old sparse map of words", archive(raw{name: "f", typ: 'S', magic: gnuMagic, at: map[int]string{386: "offset", 483: "00000000005"}}.String()), "sparse map"},
	} {
		t.Run(c.claim, func(t *testing.T) {
			src := inChunksOf(c.archive, 512)
			all, err := readAll(src, Limits{})
			if e := (*Error)(nil); !errors.Is(err, ErrHeader) || !errors.As(err, &e) || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%v, %v", all, err)
			}
			if src.held != 0 {
				t.Errorf("%d chunks are still held", src.held)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	var attrs, pairs []string
	for i := range 257 {
		attrs = append(attrs, fmt.Sprintf("SCHILY.xattr.user.%d=x", i))
	}
	for i := range 65537 {
		pairs = append(pairs, fmt.Sprint(2*i), "1")
	}
	k64 := strings.Repeat("v", 64<<10)
	huge := "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff"
	for _, c := range []struct {
		claim   string
		archive []byte
		limits  Limits
		what    string
		limit   int64
	}{
		{"an extended header of 1 MiB and a byte", archive(special('x', record("comment="+strings.Repeat("c", 1<<20))), file("f", "")), Limits{}, "bytes of an extended header", 1 << 20},
		{"a long name that is announced as 2^63-1 bytes", archive(raw{typ: 'L', size: huge}.String()), Limits{}, "bytes of an extended header", 1 << 20},
		{"a long name of 4097 bytes", archive(special('L', strings.Repeat("n", 4097)), file("f", "")), Limits{}, "bytes of a name", 4096},
		{"a path of 4097 bytes", archive(pax('x', "path="+strings.Repeat("n", 4097)), file("f", "")), Limits{}, "bytes of a name", 4096},
		{"a sparse name of 4097 bytes", archive(pax('x', "GNU.sparse.name="+strings.Repeat("n", 4097), "GNU.sparse.map=0,0"), file("f", "")), Limits{}, "bytes of a name", 4096},
		{"a link's target of 4097 bytes", archive(pax('x', "linkpath="+strings.Repeat("n", 4097)), file("f", "")), Limits{}, "bytes of a link's target", 4096},
		{"257 extended attributes", archive(pax('x', attrs...), file("f", "")), Limits{}, "extended attributes", 256},
		{"an attribute's name of 256 bytes", archive(pax('x', "SCHILY.xattr.user."+strings.Repeat("n", 251)+"=x"), file("f", "")), Limits{}, "bytes of an extended attribute's name", 255},
		{"an attribute's value of 64 KiB and a byte", archive(pax('x', "SCHILY.xattr.user.a="+k64+"v"), file("f", "")), Limits{}, "bytes of an extended attribute's value", 64 << 10},
		{"attributes of more than 256 KiB", archive(pax('x', "SCHILY.xattr.a="+k64, "SCHILY.xattr.b="+k64, "SCHILY.xattr.c="+k64, "SCHILY.xattr.d="+k64), file("f", "")), Limits{}, "bytes of extended attributes", 256 << 10},
		{"65537 regions in records", archive(pax('x', "GNU.sparse.map="+strings.Join(pairs, ","), "GNU.sparse.size=999999", "GNU.sparse.numblocks=65537"), file("f", "")), Limits{}, "regions of a sparse file", 65536},
		{"65537 regions in front of a body", archive(pax('x', "GNU.sparse.major=1", "GNU.sparse.minor=0"), file("f", body("65537\n"))), Limits{}, "regions of a sparse file", 65536},
		{"a map of zeros without end", archive(pax('x', "GNU.sparse.major=1", "GNU.sparse.minor=0"), file("f", strings.Repeat("0", 2<<20))), Limits{}, "bytes of a sparse map", 1 << 20},
		{"extension blocks without end", archive(raw{name: "f", typ: 'S', magic: gnuMagic, at: map[int]string{482: "\x01", 483: "00000000003"}}.String(),
			strings.Repeat(strings.Repeat("\x00", 504)+"\x01"+strings.Repeat("\x00", 7), 3000)), Limits{}, "bytes of a sparse map", 1 << 20},
		{"a file of 2^63-1 bytes", archive(raw{name: "f", size: huge}.String()), Limits{}, "bytes of archive", 1 << 40},
		{"more bytes than the caller wants", archive(file("f", "0123456789"), file("g", "0123456789")), Limits{Total: 1100}, "bytes of archive", 1100},
		{"more headers than the caller wants", archive(file("f", ""), file("g", "")), Limits{Headers: 1}, "header blocks", 1},
		{"headers of headers count too", archive(pax('x', "uid=1"), pax('x', "uid=1"), file("f", "")), Limits{Headers: 2}, "header blocks", 2},
	} {
		t.Run(c.claim, func(t *testing.T) {
			src := inChunksOf(c.archive, 64<<10)
			_, err := readAll(src, c.limits)
			limit := (*LimitError)(nil)
			if !errors.As(err, &limit) {
				t.Fatal(err)
			}
			if limit.What != c.what || limit.Limit != c.limit || limit.Got <= limit.Limit {
				t.Errorf("%+v", limit)
			}
			if src.held != 0 {
				t.Errorf("%d chunks are still held", src.held)
			}
		})
	}
}

func TestAtTheLimitIsAllowed(t *testing.T) {
	name := strings.Repeat("n", 4096)
	data := archive(pax('x', "path="+name, "SCHILY.xattr.user.a="+strings.Repeat("v", 64<<10)), file("f", "x"))
	if all := mustRead(t, data, 1<<16); all[0].name != name {
		t.Error(all)
	}
}

// TestASparseMapTakesBoundedMemory reads maps as long as they may be, again and
// again: the space for them must be used again (compare CVE-2025-58183).
func TestASparseMapTakesBoundedMemory(t *testing.T) {
	m := "65536\n" + strings.Repeat("0\n0\n", 65536)
	entry := pax('x', "GNU.sparse.major=1", "GNU.sparse.minor=0") + file("f", body(m))
	data := archive(strings.Repeat(entry, 20))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r := NewReader(&one{chunk: layers.NewChunk(data, nil)}, Limits{})
	n := 0
	for ; ; n++ {
		if _, err := r.Next(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; n != 20 || got > 16<<20 {
		t.Errorf("%d files took %d bytes", n, got)
	}
}

func TestATornArchiveSaysWhere(t *testing.T) {
	data := archive(file("a", "x"), pax('x', "path=b"), file("f", "hello"))
	for _, c := range []struct {
		claim  string
		length int
		want   string
	}{
		{"in a header", 700 + 512, `tar offset 1212: unexpected EOF`},
		{"in an extended header", 1024 + 512 + 3, `tar offset 1539: unexpected EOF`},
		{"in a body", 2048 + 512 + 3, `tar offset 2563: entry "b": unexpected EOF`},
	} {
		t.Run(c.claim, func(t *testing.T) {
			_, err := readAll(inChunksOf(data[:c.length], 512), Limits{})
			if !errors.Is(err, io.ErrUnexpectedEOF) || err.Error() != c.want {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
	bad := errors.New("gzip: checksum")
	src := inChunksOf(data[:2048+512+3], 512)
	src.fail = bad
	if _, err := readAll(src, Limits{}); !errors.Is(err, bad) || !strings.Contains(err.Error(), `entry "b"`) {
		t.Error(err)
	}
}

func TestAHeaderErrorSaysWhere(t *testing.T) {
	data := archive(file("a", "x"), raw{name: "etc/\x1b[2Jx", uid: "9"}.String())
	_, err := readAll(inChunksOf(data, 512), Limits{})
	if want := `tar offset 1024: entry "etc/\x1b[2Jx": malformed tar header: uid`; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
