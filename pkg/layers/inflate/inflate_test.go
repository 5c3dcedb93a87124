package inflate

import (
	"bufio"
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
)

var loops = []struct {
	name string
	kind loopKind
}{{"best", bestLoop}, {"go", goLoop}, {"careful", carefulLoop}}

// limit is more than any sample holds, and stops bombs.
const limit = 600_000

// result is all that can be seen of decoding a stream.
type result struct {
	out  []byte
	used int64
	err  error // nil at the stream's end
}

// decode decodes one stream from r through windows that hold room bytes beside
// the history, up to limit bytes of output.
func decode(kind loopKind, r io.Reader, room int) (res result) {
	var in Input
	in.Reset(r)
	d := Decoder{using: kind}
	d.Reset(&in)
	window := make([]byte, History+room+Slack)
	pos := 0
	for len(res.out) < limit {
		end, err := d.Decode(window, pos)
		res.out = append(res.out, window[pos:end]...)
		if err != nil {
			if err != io.EOF {
				res.err = err
			}
			break
		}
		if pos = end; len(window)-pos < Slack {
			pos = copy(window, window[pos-History:pos])
		}
	}
	res.used = in.Offset()
	in.Sync()
	if len(res.out) >= limit {
		// Cut off, and just where depends on how windows were filled.
		return result{out: res.out[:limit]}
	}
	return res
}

// samples are contents of several kinds, named.
func samples() map[string][]byte {
	rnd := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 100_000)
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	words := strings.Fields("the layer of a root file system is a tar archive whose entries replace those below whiteouts hide")
	var text bytes.Buffer
	for text.Len() < 400_000 {
		text.WriteString(words[rnd.IntN(len(words))])
		text.WriteByte(" \n,.;"[rnd.IntN(5)])
	}
	skewed := make([]byte, 300_000) // codewords of every length
	for i := range skewed {
		n := 0
		for rnd.IntN(3) == 0 {
			n += 1 + rnd.IntN(8)
		}
		skewed[i] = byte(n * 37)
	}
	var periods bytes.Buffer // overlapping matches of every short distance
	for n := 1; n < 80; n++ {
		unit := noise[n*100:][:n]
		for range 2 + rnd.IntN(600/n) {
			periods.Write(unit)
		}
		periods.Write(noise[n*200:][:rnd.IntN(20)])
	}
	far := bytes.Repeat(noise[:32768], 4) // matches of the greatest distance
	return map[string][]byte{
		"empty": {}, "one byte": {'x'}, "zeros": make([]byte, 500_000), "noise": noise, "text": text.Bytes(),
		"skewed": skewed, "periods": periods.Bytes(), "far": far,
		"mixed": bytes.Join([][]byte{noise[:30_000], text.Bytes()[:60_000], make([]byte, 60_000), noise[:30_000], periods.Bytes()}, nil),
	}
}

// deflate compresses with compress/flate; level 10 stands for blocks that are
// flushed now and then.
func deflate(t testing.TB, data []byte, level int) []byte {
	t.Helper()
	var z bytes.Buffer
	w, err := flate.NewWriter(&z, min(level, 9))
	if err != nil {
		t.Fatal(err)
	}
	for len(data) > 0 && level == 10 {
		n := min(len(data), 7777)
		w.Write(data[:n])
		w.Flush()
		data = data[n:]
	}
	w.Write(data)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return z.Bytes()
}

func TestWhatWasCompressedComesBack(t *testing.T) {
	for name, data := range samples() {
		for level := -2; level <= 10; level++ {
			z := deflate(t, data, level)
			for _, l := range loops {
				for _, room := range []int{0, 1000, 128 << 10} {
					got := decode(l.kind, bytes.NewReader(append(z, "tail"...)), room)
					if got.err != nil || got.used != int64(len(z)) || !bytes.Equal(got.out, data) {
						t.Errorf("%s at level %d, %s loop, room %d: %d of %d bytes, used %d of %d, %v",
							name, level, l.name, room, len(got.out), len(data), got.used, len(z), got.err)
					}
				}
			}
		}
	}
}

func TestEverySplitOfTheInputGivesTheSame(t *testing.T) {
	data := samples()["mixed"]
	z := deflate(t, data, 10)
	rnd := rand.New(rand.NewPCG(3, 4))
	readers := map[string]func() io.Reader{
		"byte by byte":    func() io.Reader { return iotest.OneByteReader(bytes.NewReader(z)) },
		"halves":          func() io.Reader { return iotest.HalfReader(bytes.NewReader(z)) },
		"EOF with data":   func() io.Reader { return iotest.DataErrReader(bytes.NewReader(z)) },
		"any":             func() io.Reader { return &split{bytes.NewReader(z), func() int { return rnd.IntN(100) }} },
		"bufio":           func() io.Reader { return bufio.NewReader(bytes.NewReader(z)) },
		"a tiny bufio":    func() io.Reader { return bufio.NewReaderSize(bytes.NewReader(z), 16) },
		"bytes.Buffer":    func() io.Reader { return bytes.NewBuffer(z) },
		"strings.Reader":  func() io.Reader { return strings.NewReader(string(z)) },
		"any ByteReader":  func() io.Reader { return struct{ byteReader }{bytes.NewReader(z)} },
		"around a margin": func() io.Reader { return &split{bytes.NewReader(z), func() int { return inMargin - 2 + rnd.IntN(20) }} },
	}
	for name, open := range readers {
		for _, l := range loops {
			got := decode(l.kind, open(), 5000)
			if got.err != nil || got.used != int64(len(z)) || !bytes.Equal(got.out, data) {
				t.Errorf("%s, %s loop: %d of %d bytes, used %d of %d, %v", name, l.name, len(got.out), len(data), got.used, len(z), got.err)
			}
		}
	}
}

type byteReader interface {
	io.Reader
	io.ByteReader
}

// split reads as many bytes at a time as next says.
type split struct {
	r    io.Reader
	next func() int
}

func (s *split) Read(p []byte) (int, error) { return s.r.Read(p[:min(len(p), s.next())]) }

func TestAByteReaderStandsBehindTheStream(t *testing.T) {
	z := append(deflate(t, samples()["text"], 6), "the rest"...)
	for name, r := range map[string]byteReader{
		"bytes.Reader": bytes.NewReader(z), "strings.Reader": strings.NewReader(string(z)), "bytes.Buffer": bytes.NewBuffer(z),
		"bufio.Reader": bufio.NewReader(bytes.NewReader(z)), "another": struct{ byteReader }{bytes.NewReader(z)},
	} {
		if got := decode(bestLoop, r, 5000); got.err != nil {
			t.Errorf("%s: %v", name, got.err)
		}
		if rest, err := io.ReadAll(r); string(rest) != "the rest" || err != nil {
			t.Errorf("%s has %d bytes left, %v", name, len(rest), err)
		}
	}
}

func TestFlushedOutputIsReturnedBeforeMoreInputIsRead(t *testing.T) {
	for _, l := range loops {
		r, w := io.Pipe()
		sent, seen := make(chan error, 1), make(chan bool)
		go func() {
			fw, err := flate.NewWriter(w, 6)
			for range 3 {
				// Long enough for the fast loop, and no more before it is seen.
				fw.Write([]byte(strings.Repeat("hello, ", 1000)))
				err = errors.Join(err, fw.Flush())
				<-seen
			}
			sent <- errors.Join(err, fw.Close(), w.Close())
		}()
		var in Input
		in.Reset(r)
		d := Decoder{using: l.kind}
		d.Reset(&in)
		window, pos := make([]byte, 64<<10), 0
		for i := range 3 {
			for pos < 7000*(i+1) {
				var err error
				if pos, err = d.Decode(window, pos); err != nil {
					t.Fatal(err)
				}
			}
			seen <- true
		}
		if _, err := d.Decode(window, pos); err != io.EOF {
			t.Error(err)
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
	}
}

func TestReaderErrorsComeThrough(t *testing.T) {
	broken := errors.New("broken")
	z := deflate(t, samples()["text"], 6)
	for _, n := range []int{0, 1, 100, len(z) - 1} {
		got := decode(bestLoop, io.MultiReader(bytes.NewReader(z[:n]), iotest.ErrReader(broken)), 5000)
		if got.err != broken {
			t.Errorf("after %d bytes: %v", n, got.err)
		}
	}
}

func TestAMatchMayNotReachIntoTheStreamBefore(t *testing.T) {
	var in Input
	var d Decoder
	window := make([]byte, 4096)
	in.Reset(bytes.NewReader(stream("1'1 2'1" + a + b + end + "pad 1'1 2'1" + a + "0000001 00001" + end)))
	d.Reset(&in)
	pos, err := d.Decode(window, 0)
	if pos != 2 || err != io.EOF {
		t.Fatal(pos, err)
	}
	d.Reset(&in)
	pos, err = d.Decode(window, pos)
	var corrupt *CorruptError
	if pos != 3 || !errors.As(err, &corrupt) || corrupt.Fault != DistanceTooFar {
		t.Error(pos, err)
	}
}

func TestDecodingAllocatesNothing(t *testing.T) {
	z := deflate(t, samples()["mixed"], 6)
	window := make([]byte, 1<<20)
	var in Input
	var d Decoder
	r := bytes.NewReader(nil)
	if n := testing.AllocsPerRun(10, func() {
		r.Reset(z)
		in.Reset(r)
		d.Reset(&in)
		if _, err := d.Decode(window, 0); err != io.EOF {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a stream", n)
	}
}

func TestDamagedStreamsAreJudgedAsFlateDoes(t *testing.T) {
	for name, data := range samples() {
		rnd := rand.New(rand.NewPCG(5, uint64(len(data))))
		for _, level := range []int{-2, 1, 6, 10} {
			z := deflate(t, data[:min(len(data), 50_000)], level)
			for range 20 {
				broken := bytes.Clone(z)
				for range 1 + rnd.IntN(3) {
					broken[rnd.IntN(len(broken))] ^= 1 << rnd.IntN(8)
				}
				if rnd.IntN(4) == 0 {
					broken = broken[:rnd.IntN(len(broken))]
				}
				if msg := compare(broken, 3000); msg != "" {
					t.Errorf("%s at level %d, damaged: %s", name, level, msg)
				}
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, v := range vectors {
		f.Add(stream(v.in), uint16(0))
		f.Add(append(stream(v.in), make([]byte, 100)...), uint16(300))
	}
	for _, data := range samples() {
		f.Add(deflate(f, data[:min(len(data), 3000)], 9), uint16(1000))
	}
	f.Fuzz(func(t *testing.T, in []byte, room uint16) {
		if msg := compare(in, 1000+int(room)); msg != "" {
			t.Error(msg)
		}
	})
}

// compare decodes in with each loop and with compress/flate and says where they
// differ: the loops in nothing, flate in neither the verdict nor the output.
func compare(in []byte, room int) string {
	want := decode(carefulLoop, bytes.NewReader(in), room)
	for _, l := range loops[:2] {
		if got := decode(l.kind, bytes.NewReader(in), room); !same(got, want) {
			return l.name + " loop: " + differ(got, want)
		}
	}
	if len(want.out) >= limit {
		return "" // cut off
	}
	if got := decode(bestLoop, bytes.NewBuffer(in), 70_000); !same(got, want) {
		return "another window: " + differ(got, want)
	}

	r := bytes.NewReader(in)
	var ref result
	ref.out, ref.err = io.ReadAll(flate.NewReader(r))
	ref.used = int64(len(in) - r.Len())
	switch {
	case (ref.err == nil) != (want.err == nil):
		return "compress/flate: " + differ(ref, want)
	case want.err == nil && (ref.used != want.used || !bytes.Equal(ref.out, want.out)):
		return "compress/flate: " + differ(ref, want)
	case !bytes.HasPrefix(want.out, ref.out) && !bytes.HasPrefix(ref.out, want.out):
		return "compress/flate's output before an error differs"
	}
	if want.err == nil && want.used > 0 {
		got := decode(bestLoop, bytes.NewReader(in[:want.used-1]), room)
		if got.err != io.ErrUnexpectedEOF || !bytes.HasPrefix(want.out, got.out) {
			return "without its last byte: " + differ(got, want)
		}
	}
	return ""
}

func same(x, y result) bool {
	var cx, cy *CorruptError
	switch {
	case x.used != y.used || !bytes.Equal(x.out, y.out):
		return false
	case errors.As(x.err, &cx) && errors.As(y.err, &cy):
		return *cx == *cy
	}
	return x.err == y.err
}

func differ(got, want result) string {
	return fmt.Sprintf("%d bytes from %d, %v; want %d from %d, %v", len(got.out), got.used, got.err, len(want.out), want.used, want.err)
}
