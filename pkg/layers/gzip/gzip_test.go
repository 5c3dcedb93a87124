package gzip

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"peel/pkg/layers/inflate"
)

// member compresses data into one member.
func member(t testing.TB, data string, hdr Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Header = hdr
	w.Write([]byte(data))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// read reads all of in through a new Reader.
func read(in io.Reader) (string, error) {
	z, err := NewReader(in)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(z)
	return string(b), err
}

func cat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestWhatIsGzipAndWhatIsNot(t *testing.T) {
	hello, empty, long := member(t, "hello", Header{}), member(t, "", Header{}), member(t, strings.Repeat("long, ", 50_000), Header{})
	change := func(in []byte, at int, by byte) []byte {
		in = bytes.Clone(in)
		in[(at+len(in))%len(in)] ^= by
		return in
	}
	// A member with every optional part, whose header checksum is right.
	head := []byte("\x1f\x8b\x08\x1e\x04\x03\x02\x01\x00\x03" + "\x03\x00xyz" + "n\xe4me\x00" + "comment\x00")
	full := binary.LittleEndian.AppendUint16(bytes.Clone(head), uint16(crc32.ChecksumIEEE(head)))
	full = append(full, hello[10:]...)

	for _, c := range []struct {
		claim string
		in    []byte
		out   string
		want  error
	}{
		{"one member", hello, "hello", nil},
		{"an empty member", empty, "", nil},
		{"two members", cat(hello, hello), "hellohello", nil},
		{"empty members between others", cat(empty, hello, empty, empty, hello, empty), "hellohello", nil},
		{"a long member between others", cat(hello, long, hello), "hello" + strings.Repeat("long, ", 50_000) + "hello", nil},
		{"zeros after the last member", cat(hello, make([]byte, 100_000)), "hello", nil},
		{"one zero after the last member", cat(hello, []byte{0}), "hello", nil},
		{"all parts of a header", full, "hello", nil},
		{"all parts of a second header", cat(hello, full), "hellohello", nil},
		{"FTEXT means nothing", change(hello, 3, 1), "hello", nil},

		{"nothing", nil, "", io.EOF},
		{"half a header", hello[:5], "", io.ErrUnexpectedEOF},
		{"half a member", hello[:11], "", io.ErrUnexpectedEOF},
		{"no trailer", hello[:len(hello)-8], "hello", io.ErrUnexpectedEOF},
		{"half a trailer", hello[:len(hello)-3], "hello", io.ErrUnexpectedEOF},
		{"half a second header", cat(hello, hello[:1]), "hello", io.ErrUnexpectedEOF},
		{"half a second member", cat(hello, hello[:11]), "hello", io.ErrUnexpectedEOF},
		{"a name without end", full[:18], "", io.ErrUnexpectedEOF},
		{"zeros alone", make([]byte, 20), "", ErrHeader},
		{"another magic number", change(hello, 1, 1), "", ErrHeader},
		{"another method", change(hello, 2, 1), "", ErrHeader},
		{"reserved flags", change(hello, 3, 0x20), "", ErrHeader},
		{"a header checksum that is wrong", change(full, 28, 1), "", ErrHeader},
		{"a header changed under its checksum", change(full, 20, 1), "", ErrHeader},
		{"an endless name", cat(full[:15], bytes.Repeat([]byte{'n'}, 70_000)), "", ErrHeader},
		{"garbage after the last member", cat(hello, []byte("garbage")), "hello", ErrHeader},
		{"garbage after zeros", cat(hello, make([]byte, 9), []byte("garbage")), "hello", ErrHeader},
		{"a member after zeros", cat(hello, make([]byte, 9), hello), "hello", ErrHeader},
		{"garbage that begins as a member does", cat(hello, []byte{0x1f, 0x8c}), "hello", ErrHeader},
		{"a wrong CRC-32", change(hello, -8, 1), "hello", ErrChecksum},
		{"a wrong length", change(hello, -1, 1), "hello", ErrChecksum},
		{"a wrong CRC-32 of an empty member", change(empty, -5, 1), "", ErrChecksum},
		{"a wrong CRC-32 of a second member", cat(hello, change(hello, -8, 1)), "hellohello", ErrChecksum},
	} {
		t.Run(c.claim, func(t *testing.T) {
			for name, in := range map[string]io.Reader{
				"bytes": bytes.NewReader(c.in), "a plain reader": struct{ io.Reader }{bytes.NewReader(c.in)},
				"byte by byte": iotest.OneByteReader(bytes.NewReader(c.in)), "EOF with data": iotest.DataErrReader(bytes.NewReader(c.in)),
			} {
				out, err := read(in)
				if out != c.out || !errors.Is(err, c.want) {
					t.Errorf("%s: %.40q, %v; want %.40q, %v", name, out, err, c.out, c.want)
				}
			}
		})
	}
}

func TestErrorsSayWhatAndWhere(t *testing.T) {
	hello := member(t, "hello", Header{})
	n := len(hello)
	for _, c := range []struct {
		in   []byte
		want error
	}{
		{cat(hello, []byte("x")), &TrailingError{Offset: int64(n + 1)}},
		{cat(hello, []byte{0, 0, 'x'}), &TrailingError{Offset: int64(n + 3)}},
		{cat(hello[:n-8], make([]byte, 4), hello[n-4:]), &ChecksumError{Field: "CRC-32", Want: 0, Got: crc32.ChecksumIEEE([]byte("hello")), Offset: int64(n)}},
		{cat(hello[:n-4], []byte{6, 0, 0, 0}), &ChecksumError{Field: "length", Want: 6, Got: 5, Offset: int64(n)}},
		{[]byte("PK\x03\x04 and so on"), &HeaderError{Reason: "not gzip's magic number", Offset: 1}},
		{cat(hello, hello[:10], []byte{7}), &inflate.CorruptError{Fault: inflate.BadBlockType, Offset: int64(n + 11)}},
	} {
		if _, err := read(bytes.NewReader(c.in)); !reflect.DeepEqual(err, c.want) {
			t.Errorf("%q: %#v, want %#v", c.in, err, c.want)
		}
	}
}

func TestTheHeaderIsTheFirstMembers(t *testing.T) {
	want := Header{Name: "näme", Comment: "cömment", Extra: []byte("extra"), ModTime: time.Unix(1234567890, 0), OS: 3}
	z, err := NewReader(bytes.NewReader(cat(member(t, "a", want), member(t, "b", Header{Name: "another"}))))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(z); err != nil || !reflect.DeepEqual(z.Header, want) {
		t.Errorf("%+v, %v", z.Header, err)
	}
	if err := z.Reset(bytes.NewReader(member(t, "", Header{OS: 9}))); err != nil || !reflect.DeepEqual(z.Header, Header{OS: 9}) {
		t.Errorf("after Reset: %+v, %v", z.Header, err)
	}
}

func TestMultistreamOffStopsBehindEachMember(t *testing.T) {
	in := cat(member(t, "one", Header{}), member(t, "two", Header{}), []byte("the rest"))
	for name, r := range map[string]byteReader{
		"bufio": bufio.NewReader(bytes.NewReader(in)), "bytes.Reader": bytes.NewReader(in), "bytes.Buffer": bytes.NewBuffer(in),
		"another": struct{ byteReader }{bytes.NewReader(in)},
	} {
		z, err := NewReader(r)
		for _, want := range []string{"one", "two"} {
			if err != nil {
				t.Fatal(name, err)
			}
			z.Multistream(false)
			if out, err := io.ReadAll(z); string(out) != want || err != nil {
				t.Errorf("%s: %q, %v", name, out, err)
			}
			if want == "one" {
				err = z.Reset(r)
			}
		}
		if rest, err := io.ReadAll(r); string(rest) != "the rest" || err != nil {
			t.Errorf("%s: %q is left, %v", name, rest, err)
		}
	}
}

type byteReader interface {
	io.Reader
	io.ByteReader
}

func TestAReaderIsReusable(t *testing.T) {
	good, bad := member(t, strings.Repeat("good", 100_000), Header{}), []byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x00\xff\xff")
	var z Reader
	for i, in := range [][]byte{good, bad, good[:100], nil, good} {
		err := z.Reset(bytes.NewReader(in))
		var n int64
		if err == nil {
			n, err = io.Copy(io.Discard, &z)
		}
		if (err == nil) != (len(in) == len(good)) || err == nil && n != 400_000 {
			t.Errorf("%d: %d bytes, %v", i, n, err)
		}
	}
}

func TestSkipChecksumSkipsTheCRCAndNotTheLength(t *testing.T) {
	for field, want := range map[int]error{-8: nil, -4: ErrChecksum} {
		in := member(t, "hello", Header{})
		in[len(in)+field] ^= 1
		z, err := NewReader(bytes.NewReader(in))
		if err != nil {
			t.Fatal(err)
		}
		z.SkipChecksum()
		if _, err := io.ReadAll(z); !errors.Is(err, want) {
			t.Errorf("byte %d changed: %v", field, err)
		}
		if err := z.Reset(bytes.NewReader(in)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(z); !errors.Is(err, ErrChecksum) {
			t.Errorf("byte %d changed, after Reset: %v", field, err)
		}
	}
}

func TestWriteToStopsAtTheWritersError(t *testing.T) {
	z, err := NewReader(bytes.NewReader(member(t, strings.Repeat("x", 1<<20), Header{})))
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	n, err := z.WriteTo(writer(func(p []byte) (int, error) { return 10, broken }))
	if n != 10 || err != broken {
		t.Error(n, err)
	}
	n, err = z.WriteTo(writer(func(p []byte) (int, error) { return len(p), nil }))
	if n != 1<<20-10 || err != nil {
		t.Error(n, err)
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

func TestReadingAllocatesNothing(t *testing.T) {
	in := bytes.Repeat(member(t, strings.Repeat("some text, ", 20_000), Header{}), 3)
	var z Reader
	r := bytes.NewReader(nil)
	buf := make([]byte, 8192)
	if n := testing.AllocsPerRun(10, func() {
		r.Reset(in)
		if err := z.Reset(r); err != nil {
			t.Fatal(err)
		}
		for {
			if _, err := z.Read(buf); err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations a file", n)
	}
}

// compare reads in with both packages and says where they differ.
func compare(in []byte) string {
	got, err := read(bytes.NewReader(in))
	var want []byte
	ref, refErr := gzip.NewReader(bytes.NewReader(in))
	if refErr == nil {
		want, refErr = io.ReadAll(ref)
	}
	var trailing *TrailingError
	var header *HeaderError
	switch {
	case err == nil && refErr == nil && got == string(want):
	case err != nil && refErr != nil && (strings.HasPrefix(got, string(want)) || strings.HasPrefix(string(want), got)):
	case err == nil && errors.Is(refErr, gzip.ErrHeader) && got == string(want) && in[len(in)-1] == 0: // padding
	case err == nil && refErr == io.ErrUnexpectedEOF && got == string(want) && in[len(in)-1] == 0: // little of it
	case errors.As(err, &header) && header.Reason == "reserved flags are set":
	case errors.As(err, &trailing) && refErr != nil:
	case err == nil && errors.Is(refErr, gzip.ErrHeader): // a name longer than 512 bytes
	default:
		return fmt.Sprintf("%d bytes, %v; compress/gzip %d, %v", len(got), err, len(want), refErr)
	}
	return ""
}

func TestDamagedFilesAreJudgedAsStdlibDoes(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	hdr := Header{Name: "name", Comment: "comment", Extra: []byte("extra"), ModTime: time.Unix(1, 0)}
	for _, in := range [][]byte{
		member(t, "hello", hdr),
		cat(member(t, "hello", Header{}), member(t, strings.Repeat("hello, ", 1000), hdr)),
	} {
		for i := range len(in) * 8 {
			broken := bytes.Clone(in)
			broken[i/8] ^= 1 << (i % 8)
			if msg := compare(broken); msg != "" {
				t.Errorf("bit %d: %s", i, msg)
			}
			if msg := compare(broken[:rnd.IntN(len(in))]); msg != "" {
				t.Errorf("bit %d, and cut: %s", i, msg)
			}
		}
	}
}

func FuzzReader(f *testing.F) {
	hdr := Header{Name: "name", Comment: "comment", Extra: []byte("extra"), ModTime: time.Unix(1, 0)}
	one, two := member(f, "hello", hdr), member(f, strings.Repeat("hello, ", 100), Header{})
	for _, in := range [][]byte{one, two, cat(one, two), cat(two, make([]byte, 9)), cat(one, []byte("x")), nil, one[:9]} {
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if msg := compare(in); msg != "" {
			t.Error(msg)
		}
		// In pieces it is the same.
		whole, err := read(bytes.NewReader(in))
		pieces, err2 := read(iotest.OneByteReader(bytes.NewReader(in)))
		if whole != pieces || fmt.Sprint(err) != fmt.Sprint(err2) {
			t.Errorf("at once %d bytes, %v; byte by byte %d, %v", len(whole), err, len(pieces), err2)
		}
	})
}
