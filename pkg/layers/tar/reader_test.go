package tar

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"peel/pkg/layers"
)

// describe writes down what of an entry is not the default: the tables below say
// only what they are about.
func describe(e entry) string {
	s := fmt.Sprintf("%c %s", e.typ, e.name)
	add := func(given bool, format string, args ...any) {
		if given {
			s += " " + fmt.Sprintf(format, args...)
		}
	}
	add(e.link != "", "-> %s", e.link)
	add(e.mode != 0o644, "mode=%o", e.mode)
	add(e.uid != 0 || e.gid != 0, "owner=%d:%d", e.uid, e.gid)
	add(e.size != 0, "size=%d", e.size)
	add(!e.mtime.Equal(time.Unix(0, 0)), "mtime=%s", stamp(e.mtime))
	add(!e.atime.IsZero(), "atime=%s", stamp(e.atime))
	add(e.major != 0 || e.minor != 0, "dev=%d:%d", e.major, e.minor)
	add(e.xattrs != "", "xattrs: %s", strings.TrimSpace(e.xattrs))
	add(e.sparse != "", "%s", e.sparse)
	add(e.content != "", "%q", e.content)
	return s
}

func stamp(t time.Time) string { return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()) }

func TestEntries(t *testing.T) {
	long := strings.Repeat("d/", 100) + "file"
	for _, c := range []struct {
		claim   string
		archive []byte
		want    string // described entries, one a line
	}{
		{"an archive of nothing but its end", archive(), ""},
		{"a ustar file", archive(raw{name: "f", mode: "0004755", uid: "0001750", gid: "0000144", size: octalSize(2),
			mtime: "12345670123"}.String(), body("hi")),
			`0 f mode=4755 owner=1000:100 size=2 mtime=1402433619.000000000 "hi"`},
		{"two files, a whole block and one byte", archive(file("a", strings.Repeat("x", 512)), file("b", "y")),
			"0 a size=512 \"" + strings.Repeat("x", 512) + "\"\n0 b size=1 \"y\""},
		{"all types", archive(raw{name: "hard", typ: '1', link: "f"}.String(), raw{name: "sym", typ: '2', link: "../f"}.String(),
			raw{name: "c", typ: '3', major: "0000005", minor: "0000001"}.String(),
			raw{name: "b", typ: '4', major: "0000010", minor: "0000020"}.String(),
			raw{name: "d/", typ: '5', mode: "0001777"}.String(), raw{name: "p", typ: '6'}.String(), raw{name: "f7", typ: '7'}.String()),
			"1 hard -> f\n2 sym -> ../f\n3 c dev=5:1\n4 b dev=8:16\n5 d/ mode=1777\n6 p\n0 f7"},
		{"an unknown type is told as it is, with its body", archive(raw{name: "dump", typ: 'D', size: octalSize(3)}.String(), body("Yf\x00"), file("f", "")),
			"D dump size=3 \"Yf\\x00\"\n0 f"},
		{"links, directories, devices and FIFOs have no body, whatever their size says",
			archive(raw{name: "h", typ: '1', link: "f", size: octalSize(900)}.String(), raw{name: "d", typ: '5', size: octalSize(900)}.String(), file("f", "x")),
			"1 h -> f\n5 d\n0 f size=1 \"x\""},
		{"a device's numbers only for devices", archive(raw{name: "f", major: "junk"}.String()), "0 f"},
		{"the file type in the mode is dropped", archive(raw{name: "f", mode: "0100644"}.String()), "0 f"},

		// V7
		{"V7: no magic, type NUL", archive(raw{name: "f", typ: nul, magic: v7Magic, size: octalSize(1)}.String(), body("x")), `0 f size=1 "x"`},
		{"V7: a slash behind the name makes a directory", archive(raw{name: "d/", typ: nul, magic: v7Magic}.String()), "5 d/"},
		{"type 0 with a slash stays a file", archive(raw{name: "d/"}.String()), "0 d/"},
		{"V7 has no prefix", archive(raw{name: "f", magic: v7Magic, prefix: "p"}.String()), "0 f"},

		// Names
		{"ustar's prefix goes before the name", archive(raw{name: "f", prefix: "usr/lib"}.String()), "0 usr/lib/f"},
		{"full fields need no NUL", archive(raw{name: strings.Repeat("n", 100), link: strings.Repeat("l", 100), typ: '2', prefix: strings.Repeat("p", 155)}.String()),
			"2 " + strings.Repeat("p", 155) + "/" + strings.Repeat("n", 100) + " -> " + strings.Repeat("l", 100)},
		{"star's prefix is shorter and times come behind it",
			archive(raw{name: "f", prefix: "p", at: map[int]string{476: "00000000007", 488: "00000000011", 508: "tar\x00"}}.String()), "0 p/f atime=7.000000000"},
		{"names are bytes, not UTF-8", archive(file("caf\xe9", "")), "0 caf\xe9"},
		{"GNU long name and long link, one NUL behind each", archive(special('L', long+"\x00"), special('K', "to/"+long+"\x00"), raw{name: "short", link: "s", typ: '2', magic: gnuMagic}.String(), file("next", "")),
			"2 " + long + " -> to/" + long + "\n0 next"},
		{"the last of two long names counts", archive(special('L', "first\x00"), special('L', "second\x00"), file("f", "")), "0 second"},
		{"an empty long name says nothing", archive(special('L', "\x00"), file("f", "")), "0 f"},
		{"a long name goes before a PAX path", archive(special('L', "gnu"), pax('x', "path=pax"), file("f", "")), "0 gnu"},

		// Numbers
		{"octal with spaces around it", archive(raw{name: "f", uid: "   17 \x00 ", mode: " 644 \x00"}.String()), "0 f owner=15:0"},
		{"a NUL ends a number", archive(raw{name: "f", uid: "17\x00junk!"}.String()), "0 f owner=15:0"},
		{"empty numbers are zero", archive(raw{name: "f", uid: "\x00", gid: "        "}.String()), "0 f"},
		{"base-256", archive(raw{name: "f", uid: "\x80\x00\x00\x00\x00\x20\x00\x00", mtime: "\x80\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00"}.String()),
			"0 f owner=2097152:0 mtime=8589934592.000000000"},
		{"base-256, negative", archive(raw{name: "f", uid: "\xff\xff\xff\xff\xff\xff\xff\xff", mtime: "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe"}.String()),
			"0 f owner=-1:0 mtime=-2.000000000"},
		{"base-256 size", archive(raw{name: "f", size: "\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"}.String(), body("x")), `0 f size=1 "x"`},
		{"a checksum of signed bytes", archive(raw{name: "\xe9", sum: func(s uint) string { return fmt.Sprintf("%06o\x00 ", s-256) }}.String()), "0 \xe9"},
		{"GNU's atime", archive(raw{name: "f", magic: gnuMagic, at: map[int]string{345: "00000000012"}}.String()), "0 f atime=10.000000000"},
		{"Go's old mistake, a prefix where GNU has its times", archive(raw{name: "f", magic: gnuMagic, prefix: "dir/sub"}.String()), "0 dir/sub/f"},

		// PAX
		{"x overrides the header", archive(pax('x', "path=p/q", "linkpath=l/m", "uid=5000000000", "gid=6", "mtime=1.5", "atime=2.000000001"), raw{name: "f", link: "x", typ: '2'}.String()),
			"2 p/q -> l/m owner=5000000000:6 mtime=1.500000000 atime=2.000000001"},
		{"x is for one entry", archive(pax('x', "path=p", "uid=7", "SCHILY.xattr.user.a=b"), file("f", ""), file("g", "")), "0 p owner=7:0 xattrs: \"user.a\"=\"b\"\n0 g"},
		{"x overrides the size, so the body", archive(pax('x', "size=3"), raw{name: "f"}.String(), body("abc"), file("g", "")), "0 f size=3 \"abc\"\n0 g"},
		{"the last record of a keyword counts", archive(pax('x', "uid=junk", "uid=5"), file("f", "")), "0 f owner=5:0"},
		{"the last of two x headers counts, alone", archive(pax('x', "uid=5"), pax('x', "gid=6"), file("f", "")), "0 f owner=0:6"},
		{"an empty value gives the header's field back", archive(pax('x', "uid=5", "uid="), raw{name: "f", uid: "0000003"}.String()), "0 f owner=3:0"},
		{"times before the epoch, fractions too", archive(pax('x', "mtime=-1.25", "atime=-0.5"), file("f", "")), "0 f mtime=-2.750000000 atime=-1.500000000"},
		{"digits beyond nanoseconds are dropped", archive(pax('x', "mtime=3.1234567899"), file("f", "")), "0 f mtime=3.123456789"},
		{"unknown records are skipped, hdrcharset too", archive(pax('x', "hdrcharset=BINARY", "comment=\x00 a=b\n", "VENDOR.x=y", "path=\xff"), file("f", "")), "0 \xff"},
		{"g is for all entries behind it", archive(file("a", ""), pax('g', "uid=7", "mtime=9"), file("b", ""), file("c", "")),
			"0 a\n0 b owner=7:0 mtime=9.000000000\n0 c owner=7:0 mtime=9.000000000"},
		{"x before g before the header", archive(pax('g', "uid=7", "gid=8"), pax('x', "uid=9"), raw{name: "f", uid: "0000001", gid: "0000001"}.String()), "0 f owner=9:8"},
		{"x can delete what g said", archive(pax('g', "uid=7"), pax('x', "uid="), raw{name: "f", uid: "0000001"}.String(), file("g", "")), "0 f owner=1:0\n0 g owner=7:0"},
		{"a later g overrides one keyword of an earlier one", archive(pax('g', "uid=7", "gid=8"), pax('g', "gid=9"), file("f", "")), "0 f owner=7:9"},
		{"a g of comments, as git writes it", archive(pax('g', "comment=0123456789abcdef"), file("f", "")), "0 f"},

		// Extended attributes
		{"SCHILY.xattr: values are bytes", archive(pax('x', "SCHILY.xattr.security.capability=\x01\x00\x00\x02=\n"), file("f", "")),
			`0 f xattrs: "security.capability"="\x01\x00\x00\x02=\n"`},
		{"LIBARCHIVE.xattr, with and without padding", archive(pax('x', "LIBARCHIVE.xattr.user.a%20b=AQID", "LIBARCHIVE.xattr.user.c=eA==", "LIBARCHIVE.xattr.user.d=eA"), file("f", "")),
			`0 f xattrs: "user.a b"="\x01\x02\x03" "user.c"="x" "user.d"="x"`},
		{"SCHILY wins over LIBARCHIVE, in any order", archive(pax('x', "LIBARCHIVE.xattr.user.a=eA", "SCHILY.xattr.user.a=s"), file("f", ""),
			pax('x', "SCHILY.xattr.user.a=s", "LIBARCHIVE.xattr.user.a=eA"), file("g", "")), "0 f xattrs: \"user.a\"=\"s\"\n0 g xattrs: \"user.a\"=\"s\""},
		{"an attribute with no value is taken away", archive(pax('x', "SCHILY.xattr.user.a=1", "SCHILY.xattr.user.b=2", "SCHILY.xattr.user.a="), file("f", "")),
			`0 f xattrs: "user.b"="2"`},

		// Sparse files
		{"sparse 0.0: a pair of records a region", archive(pax('x', "GNU.sparse.size=10", "GNU.sparse.numblocks=2", "GNU.sparse.offset=2", "GNU.sparse.numbytes=3",
			"GNU.sparse.offset=7", "GNU.sparse.numbytes=1"), file("f", "abcd")), `0 f size=10 sparse 2+3 7+1 "\x00\x00abc\x00\x00d\x00\x00"`},
		{"sparse 0.1: a map, and the real name", archive(pax('x', "GNU.sparse.map=0,1,4,1", "GNU.sparse.size=5", "GNU.sparse.numblocks=2", "GNU.sparse.name=real", "path=./GNUSparseFile.0/real"), file("f", "ab")),
			`0 real size=5 sparse 0+1 4+1 "a\x00\x00\x00b"`},
		{"sparse 1.0: the map is in the body", archive(pax('x', "GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=f", "GNU.sparse.realsize=6"), file("x", body("2\n1\n1\n4\n2\n")+"abc"), file("g", "")),
			"0 f size=6 sparse 1+1 4+2 \"\\x00a\\x00\\x00bc\"\n0 g"},
		{"sparse 1.0: a map of more than a block", archive(pax('x', "GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.realsize=2"),
			file("x", body("1\n"+strings.Repeat("0", 600)+"1\n1\n")+"a")), `0 x size=2 sparse 1+1 "\x00a"`},
		{"old GNU sparse", archive(raw{name: "f", typ: 'S', magic: gnuMagic, size: octalSize(2), at: map[int]string{386: "00000000001", 398: "00000000001", 410: "00000000003", 422: "00000000001", 483: "00000000005"}}.String(), body("ab"), file("g", "")),
			"0 f size=5 sparse 1+1 3+1 \"\\x00a\\x00b\\x00\"\n0 g"},
		{"old GNU sparse with an extension block", archive(raw{name: "f", typ: 'S', magic: gnuMagic, size: octalSize(1), at: map[int]string{482: "\x01", 483: "00000000003"}}.String(),
			"00000000001\x0000000000001\x00"+strings.Repeat("\x00", 488), body("a"), file("g", "")), "0 f size=3 sparse 1+1 \"\\x00a\\x00\"\n0 g"},
		{"nothing but a hole; the empty region at the end is dropped", archive(pax('x', "GNU.sparse.map=4,0", "GNU.sparse.size=4", "GNU.sparse.numblocks=1"), file("f", "")),
			`0 f size=4 sparse "\x00\x00\x00\x00"`},
		{"a sparse version to come is a plain file", archive(pax('x', "GNU.sparse.major=2", "GNU.sparse.minor=0", "GNU.sparse.size=10"), file("f", "x")), `0 f size=1 "x"`},

		// The end
		{"what lies behind the end is not looked at", append(archive(file("f", "")), "garbage"...), "0 f"},
		{"no end blocks", []byte(file("f", "x")), `0 f size=1 "x"`},
		{"one end block", []byte(file("f", "") + strings.Repeat("\x00", 512)), "0 f"},
		{"no padding behind the last file", []byte(raw{name: "f", size: octalSize(1)}.String() + "x"), `0 f size=1 "x"`},
		{"no bytes at all", nil, ""},
		{"an extended header for nothing", archive(pax('x', "path=p")), ""},
	} {
		t.Run(c.claim, func(t *testing.T) {
			var got []string
			for _, e := range mustRead(t, c.archive, 512) {
				got = append(got, describe(e))
			}
			if s := strings.Join(got, "\n"); s != c.want {
				t.Errorf("got\n%s\nwant\n%s", s, c.want)
			}
		})
	}
}

func TestOffsetsPointIntoTheStream(t *testing.T) {
	data := archive(file("a", "first"), pax('x', "path=b"), file("x", "second"), raw{name: "d", typ: '5'}.String(),
		pax('x', "GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.realsize=6"), file("s", body("1\n0\n5\n")+"third"))
	var got []int64
	for _, e := range mustRead(t, data, 700) {
		got = append(got, e.offset, e.bodyAt)
		if want := strings.TrimRight(e.content, "\x00"); string(data[e.bodyAt:][:len(want)]) != want {
			t.Errorf("%s: content is not at %d", e.name, e.bodyAt)
		}
	}
	if want := []int64{0, 512, 2048, 2560, 3072, 3584, 4608, 5632}; !reflect.DeepEqual(got, want) {
		t.Errorf("offsets %d, want %d", got, want)
	}
}

// TestEverySplitGivesTheSame cuts one archive with every kind of header in it in two
// at every byte, and in equal parts of every size.
func TestEverySplitGivesTheSame(t *testing.T) {
	data := archive(file("a", strings.Repeat("a", 700)), special('L', strings.Repeat("n", 600)+"\x00"), special('K', "link\x00"), raw{name: "s", typ: '2', magic: gnuMagic}.String(),
		pax('g', "uid=1"), pax('x', "path="+strings.Repeat("p", 700), "SCHILY.xattr.user.a=b"), file("f", "pax"),
		pax('x', "GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.realsize=9"), file("x", body("2\n1\n1\n"+strings.Repeat("0", 510)+"4\n2\n")+"abc"),
		raw{name: "old", typ: 'S', magic: gnuMagic, size: octalSize(1), at: map[int]string{482: "\x01", 483: "00000000003"}}.String(), "00000000001\x0000000000001\x00"+strings.Repeat("\x00", 488), body("a"),
		file("z", "last"))
	want := mustRead(t, data, len(data))
	if len(want) != 6 {
		t.Fatalf("%d entries", len(want))
	}
	check := func(what string, src *chunks) {
		got, err := readAll(src, Limits{})
		if err != nil || !reflect.DeepEqual(got, want) || src.held != 0 {
			t.Fatalf("%s: %v, %d held, %v", what, err, src.held, got)
		}
	}
	for n := range len(data) {
		first := n + 1
		check(fmt.Sprintf("cut at %d", first), &chunks{data: data, size: func(left int) int {
			if left == len(data) {
				return first
			}
			return left
		}})
	}
	for n := 1; n <= 1100; n++ {
		check(fmt.Sprintf("chunks of %d", n), inChunksOf(data, n))
	}
}

// empty gives an empty chunk before each one of its source.
type empty struct {
	*chunks
	turn bool
}

func (e *empty) Next() (*layers.Chunk, error) {
	if e.turn = !e.turn; e.turn {
		return layers.NewChunk(nil, nil), nil
	}
	return e.chunks.Next()
}

func TestEmptyChunksAreNoEnd(t *testing.T) {
	r := NewReader(&empty{chunks: inChunksOf(archive(file("f", "hello")), 3)}, Limits{})
	if h, err := r.Next(); err != nil || string(h.Name) != "f" {
		t.Fatal(h, err)
	}
	if p, err := r.Piece(); err != nil || string(p.Bytes) != "h" { // 512 = 170 * 3 + 2
		t.Fatalf("%q, %v", p.Bytes, err)
	}
	if _, err := r.Next(); err != io.EOF {
		t.Fatal(err)
	}
}

func TestAPieceOutlivesTheReader(t *testing.T) {
	src := inChunksOf(archive(file("f", "hello"), file("g", strings.Repeat("g", 5000))), 600)
	r := NewReader(src, Limits{})
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	p, err := r.Piece()
	if err != nil {
		t.Fatal(err)
	}
	p.Chunk.Retain()
	for err == nil {
		_, err = r.Next()
	}
	if err != io.EOF || string(p.Bytes) != "hello" || p.Off != 0 || src.held != 1 {
		t.Fatalf("%v, %q at %d, %d held", err, p.Bytes, p.Off, src.held)
	}
	p.Chunk.Release()
	if src.held != 0 {
		t.Fatal("still held")
	}
	if _, err := r.Next(); err != io.EOF {
		t.Fatal("the end is not for good:", err)
	}
	if _, err := r.Piece(); err != io.EOF {
		t.Fatal(err)
	}
}

func TestCloseGivesBackTheChunk(t *testing.T) {
	src := inChunksOf(archive(file("f", "hello")), 600)
	r := NewReader(src, Limits{})
	if _, err := r.Next(); err != nil || src.held != 1 {
		t.Fatal(err, src.held)
	}
	r.Close()
	r.Close()
	if _, err := r.Next(); err == nil || errors.Is(err, io.EOF) || src.held != 0 {
		t.Fatal(err, src.held)
	}
}

func TestNothingIsAllocatedPerEntry(t *testing.T) {
	var parts []string
	for range 200 {
		parts = append(parts, file("usr/share/doc/a", "hello"), pax('x', "path=usr/lib/b", "mtime=1.5", "SCHILY.xattr.user.a=b"), file("b", "x"),
			special('L', "long\x00"), raw{name: "l", link: "t", typ: '2', magic: gnuMagic}.String())
	}
	data := archive(parts...)
	read := func() {
		r := NewReader(&one{chunk: layers.NewChunk(data, nil)}, Limits{})
		for n := 0; ; n++ {
			_, err := r.Next()
			if err == io.EOF && n == 600 {
				return
			}
			if err != nil {
				t.Fatal(n, err)
			}
			for err == nil {
				_, err = r.Piece()
			}
		}
	}
	if n := testing.AllocsPerRun(5, read); n > 20 {
		t.Errorf("%v allocations for 600 entries", n)
	}
}

// one gives a single chunk.
type one struct{ chunk *layers.Chunk }

func (o *one) Next() (*layers.Chunk, error) {
	if o.chunk == nil {
		return nil, io.EOF
	}
	c := o.chunk
	o.chunk = nil
	return c, nil
}
