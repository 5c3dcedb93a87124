package gzip

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// likeALayer is n bytes of text, noise, zeros and repetitions.
func likeALayer(n int) []byte {
	rnd := rand.New(rand.NewPCG(1, uint64(n)))
	var words [500][]byte
	for i := range words {
		words[i] = make([]byte, 2+rnd.IntN(12))
		for j := range words[i] {
			words[i][j] = 'a' + byte(rnd.IntN(26))
		}
	}
	var b []byte
	for len(b) < n {
		switch rnd.IntN(40) {
		case 0:
			for range rnd.IntN(3000) {
				b = append(b, byte(rnd.Uint32()))
			}
		case 1:
			b = append(b, make([]byte, rnd.IntN(3000))...)
		case 2:
			if len(b) > 40_000 {
				from := len(b) - 1 - rnd.IntN(32768)
				b = append(b, b[from:from+min(500, len(b)-from)]...)
			}
		default:
			for range rnd.IntN(200) {
				b = append(append(b, words[rnd.IntN(len(words))]...), ' ')
			}
		}
	}
	return b[:n]
}

// readAhead reads all of in with n workers and segments of the given size, and
// says how many stretches were taken.
func readAhead(in []byte, n, size int) (out []byte, taken int, err error) {
	z, err := NewReader(bytes.NewReader(in))
	if err != nil {
		return nil, 0, err
	}
	defer z.Close()
	z.speculate(n, size)
	buf := make([]byte, 70_000)
	was := (*segment)(nil)
	for {
		m, err := z.Read(buf)
		out = append(out, buf[:m]...)
		if from := z.ahead.from; from != was && from != nil {
			taken++
		}
		was = z.ahead.from
		if err == io.EOF {
			return out, taken, nil
		}
		if err != nil {
			return out, taken, err
		}
	}
}

// split cuts data into pieces of n bytes.
func split(data []byte, n int) [][]byte { return slices.Collect(slices.Chunk(data, n)) }

func compressed(t testing.TB, level int, parts ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, data := range parts {
		w, err := gzip.NewWriterLevel(&b, level)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(data)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func TestDecodingAheadGivesTheSame(t *testing.T) {
	data := likeALayer(1_500_000)
	for _, c := range []struct {
		claim string
		in    []byte
		most  bool // of the input is to come from stretches
	}{
		{"one long member", compressed(t, 6, data), true},
		{"fast level", compressed(t, 1, data), true},
		{"members of some blocks", compressed(t, 6, data[:400_000], data[400_000:900_000], data[900_000:]), true},
		{"many short members", compressed(t, 6, split(data, 9_000)...), true},
		{"many members, long ones and empty ones among them", compressed(t, 6, append(append(split(data[:400_000], 5_000), nil, data, nil), split(data, 50_000)...)...), true},
		{"many members and zeros", append(compressed(t, 6, split(data, 9_000)...), make([]byte, 100_000)...), false},
		{"stored blocks", compressed(t, 0, data), false},
		{"literals only", compressed(t, -2, data), true},
		{"a gzip file within", compressed(t, 6, data[:500_000], compressed(t, 6, data), data[:500_000]), false},
		{"short", compressed(t, 6, data[:1000]), false},
		{"empty", compressed(t, 6, nil), false},
		{"zeros", compressed(t, 6, make([]byte, 18<<20)), false},
	} {
		want, err := read(bytes.NewReader(c.in))
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{5_000, 150_000} {
			for n := 1; n <= 3; n += 2 {
				if len(want) > 10<<20 && (n > 1 || size > 5_000) {
					continue // once is enough
				}
				t.Run(fmt.Sprintf("%s/%d/%d", c.claim, size, n), func(t *testing.T) {
					got, taken, err := readAhead(c.in, n, size)
					if err != nil || string(got) != want {
						t.Errorf("%d bytes, %v; want %d", len(got), err, len(want))
					}
					if segments := len(c.in) / size; c.most && size > 50_000 && taken < segments/3 {
						t.Errorf("%d stretches of %d segments", taken, segments)
					}
				})
			}
		}
	}
}

// What has become long is not decoded twice: it ends with the block in work.
func TestALongStretchEndsBetweenBlocks(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	var zeros, copies []byte // that never, and always, reach back to the beginning
	for len(zeros) < 50<<20 {
		zeros = append(zeros, make([]byte, 2000)...)
		zeros = binary.LittleEndian.AppendUint64(zeros, rnd.Uint64())
	}
	for one := likeALayer(20_000); len(copies) < 20<<20; copies = append(copies, one...) {
		for range 40 {
			one[rnd.IntN(len(one))]++
		}
	}
	for _, c := range []struct {
		name     string
		data     []byte
		segments int // that have a stretch
	}{{"bytes", zeros, 1}, {"symbols", copies, 2}} {
		in := compressed(t, 6, c.data)
		got, taken, err := readAhead(in, 2, len(in)/2+1)
		if err != nil || !bytes.Equal(got, c.data) {
			t.Errorf("%s: %d bytes, %v; want %d", c.name, len(got), err, len(c.data))
		}
		if taken < c.segments {
			t.Errorf("%s: %d stretches were taken, want %d", c.name, taken, c.segments)
		}
	}
}

// Workers find what lies within a stored block, one after another, and the Reader
// comes to no end of a block where it could see that none of it fits.
func TestStretchesThatNobodyWantsAreNotInTheWay(t *testing.T) {
	data := likeALayer(200_000)
	var within bytes.Buffer
	w, err := flate.NewWriter(&within, flate.HuffmanOnly)
	if err != nil {
		t.Fatal(err)
	}
	for piece := range slices.Chunk(data, 1000) {
		w.Write(piece)
		w.Flush()
	}
	in := compressed(t, 0, within.Bytes())
	for _, n := range []int{1, 3} {
		got, _, err := readAhead(in, n, 2_000)
		if err != nil || !bytes.Equal(got, within.Bytes()) {
			t.Errorf("%d bytes, %v; want %d", len(got), err, within.Len())
		}
	}
}

func TestDecodingAheadFindsTheSameFaults(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	data := likeALayer(1_000_000)
	wholes := [][]byte{
		compressed(t, 6, data[:400_000], data[400_000:]),
		compressed(t, 6, split(data, 6_000)...),
	}
	for i := range 40 {
		in := bytes.Clone(wholes[i%2])
		in[10+rnd.IntN(len(in)-10)] ^= 1 << rnd.IntN(8)
		if rnd.IntN(3) == 0 {
			in = in[:rnd.IntN(len(in)-20)+20]
		}
		want, wantErr := read(bytes.NewReader(in))
		got, _, err := readAhead(in, 2, 10_000+rnd.IntN(60_000))
		if string(got) != want || !reflect.DeepEqual(err, wantErr) {
			t.Errorf("%d bytes, %v; want %d, %v", len(got), err, len(want), wantErr)
		}
	}
}

func TestDecodingAheadCanBeginLate(t *testing.T) {
	data := likeALayer(2_000_000)
	in := compressed(t, 6, data)
	for _, open := range []func() io.Reader{
		func() io.Reader { return bytes.NewReader(in) },
		func() io.Reader { return bytes.NewBuffer(bytes.Clone(in)) },
		func() io.Reader { return struct{ io.Reader }{bytes.NewReader(in)} },
		func() io.Reader { return struct{ byteReader }{bytes.NewReader(in)} },
	} {
		for _, late := range []int{0, 1, 40_000, 500_000, 1_999_999, 2_000_000} {
			z, err := NewReader(open())
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, late)
			if _, err := io.ReadFull(z, got); err != nil {
				t.Fatal(err)
			}
			z.speculate(2, 50_000)
			rest, err := io.ReadAll(z)
			if got = append(got, rest...); err != nil || !bytes.Equal(got, data) {
				t.Errorf("after %d: %d bytes, %v", late, len(got), err)
			}
			z.Close()
		}
	}
}

func TestClosingWhileOthersDecodeAheadLeavesNothing(t *testing.T) {
	in := compressed(t, 6, likeALayer(2_000_000))
	for n := range 10 {
		z, err := NewReader(bytes.NewReader(in))
		if err != nil {
			t.Fatal(err)
		}
		z.speculate(3, 20_000)
		io.CopyN(io.Discard, z, int64(n*n*9000))
		z.Close()
		if _, err := io.Copy(io.Discard, z); err == nil && n < 10 {
			t.Error("a closed reader went on")
		}
		// It can be used again.
		if err := z.Reset(bytes.NewReader(in)); err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, z); n != 2_000_000 || err != nil {
			t.Fatal(n, err)
		}
	}
}

func TestReaderErrorsComeThroughWhatIsDecodedAhead(t *testing.T) {
	broken := errors.New("broken")
	in := compressed(t, 6, likeALayer(1_000_000))
	z, err := NewReader(io.MultiReader(bytes.NewReader(in[:len(in)/2]), failing{broken}))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	z.speculate(2, 30_000)
	if n, err := io.Copy(io.Discard, z); err != broken || n < 400_000 {
		t.Error(n, err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func FuzzSpeculate(f *testing.F) {
	data := likeALayer(300_000)
	f.Add(compressed(f, 6, data[:100_000]), uint16(3000))
	f.Add(compressed(f, 1, data[:50_000], data[50_000:90_000]), uint16(2000))
	f.Add(compressed(f, 0, data[:10_000]), uint16(700))
	f.Add(compressed(f, 6, split(data[:40_000], 3_000)...), uint16(5000))
	f.Fuzz(func(t *testing.T, in []byte, size uint16) {
		want, wantErr := read(io.LimitReader(bytes.NewReader(in), 1<<20))
		if len(want) > 1<<20 {
			return
		}
		got, _, err := readAhead(in, 2, 600+int(size))
		if string(got) != want || fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Errorf("%d bytes, %v; want %d, %v", len(got), err, len(want), wantErr)
		}
	})
}
