package zstd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const window = 8 << 20

// text is n bytes that shrink like a program's.
func text(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	var b bytes.Buffer
	for b.Len() < n {
		fmt.Fprintf(&b, "line %d of %d\n", r.IntN(1000), r.Uint32())
	}
	return b.Bytes()[:n]
}

func frame(t testing.TB, data []byte, opts ...zstd.EOption) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, append(opts, zstd.WithEncoderConcurrency(1))...)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(data, nil)
}

// streamed is a frame that does not say how long its contents are.
func streamed(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	for rest := data; len(rest) > 0; {
		n := min(len(rest), 50_000)
		w.Write(rest[:n])
		w.Flush()
		rest = rest[n:]
	}
	w.Close()
	return b.Bytes()
}

func skippable(data string) []byte {
	b := binary.LittleEndian.AppendUint32(nil, skippableMagic+7)
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(data))), data...)
}

// serially is what one decoder makes of all frames.
func serially(blob io.Reader) ([]byte, error) {
	z, err := zstd.NewReader(blob, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(window))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	return io.ReadAll(z)
}

// ahead reads with three goroutines, after the given number of bytes, in batches
// of the given size, and tells whether they have decoded all that follows.
func readAhead(t testing.TB, blob io.Reader, after int64, batch int) (out []byte, all bool, err error) {
	t.Helper()
	z, err := NewReader(blob, window)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	z.batch = batch
	var b bytes.Buffer
	if _, err = io.CopyN(&b, z, after); err == nil {
		z.Ahead(3)
		_, err = io.Copy(&b, z)
	}
	return b.Bytes(), z.ahead != nil && !z.serial, err
}

func same(t testing.TB, got []byte, gotErr error, want []byte, wantErr error) {
	t.Helper()
	if fmt.Sprint(gotErr) != fmt.Sprint(wantErr) && !(wantErr == nil && gotErr == io.EOF) {
		t.Errorf("ends with %v, decoded serially with %v", gotErr, wantErr)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes, decoded serially %d, and they differ", len(got), len(want))
	}
}

var streams = []struct {
	name  string
	ahead bool // can be decoded so to its end
	blob  func(t testing.TB) []byte
}{
	{"nothing", true, func(t testing.TB) []byte { return nil }},
	{"one frame", true, func(t testing.TB) []byte { return frame(t, text(300_000, 1)) }},
	{"many frames", true, func(t testing.TB) (b []byte) {
		for i := range 50 {
			b = append(b, frame(t, text(i*1000, uint64(i)), zstd.WithEncoderCRC(i%2 == 0), zstd.WithSingleSegment(i%3 == 0))...)
		}
		return b
	}},
	{"frames without their contents' size", true, func(t testing.TB) (b []byte) {
		for i := range 5 {
			b = append(b, streamed(t, text(i*100_000, uint64(i)))...)
		}
		return b
	}},
	{"skippable frames between, before and after", true, func(t testing.TB) (b []byte) {
		for i := range 9 {
			b = append(b, skippable("for somebody else"[:2*i])...)
			b = append(b, frame(t, text(20_000, uint64(i)))...)
		}
		return append(b, skippable("")...)
	}},
	{"runs of a byte and bytes as they are", true, func(t testing.TB) (b []byte) {
		b = frame(t, make([]byte, 500_000))
		noise := make([]byte, 300_000)
		rand.NewChaCha8([32]byte{}).Read(noise)
		return append(b, frame(t, noise)...)
	}},
	{"a frame of more than fits, between short ones", false, func(t testing.TB) (b []byte) {
		b = frame(t, text(1000, 1))
		b = append(b, streamed(t, make([]byte, maxOut+1))...)
		return append(b, frame(t, text(1000, 2))...)
	}},
	{"a long frame that does not shrink", false, func(t testing.TB) (b []byte) {
		noise := make([]byte, maxIn+100_000)
		rand.NewChaCha8([32]byte{}).Read(noise)
		b = append(frame(t, text(1000, 1)), frame(t, noise)...)
		return append(b, frame(t, text(1000, 2))...)
	}},
	{"bytes behind that are no frame", false, func(t testing.TB) []byte {
		return append(frame(t, text(1000, 1)), "no frame"...)
	}},
	{"a byte behind", false, func(t testing.TB) []byte { return append(frame(t, text(1000, 1)), 0x28) }},
	{"a block of no kind", false, func(t testing.TB) []byte {
		return append(frame(t, text(1000, 1)), 0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58, 0x07, 0, 0)
	}},
	{"a larger window than is allowed", false, func(t testing.TB) []byte {
		b := append(frame(t, text(1000, 1)), 0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff, 0x01, 0, 0)
		return append(b, frame(t, text(1000, 1))...)
	}},
}

func TestDecodedAheadIsAsDecodedSerially(t *testing.T) {
	for _, s := range streams {
		t.Run(s.name, func(t *testing.T) {
			blob := s.blob(t)
			want, wantErr := serially(bytes.NewReader(blob))
			for _, batch := range []int{1, 10_000, batchSize} {
				for _, after := range []int64{0, 1, int64(len(want) / 2)} {
					got, all, err := readAhead(t, bytes.NewReader(blob), min(after, int64(len(want))), batch)
					same(t, got, err, want, wantErr)
					if all != s.ahead && after == 0 {
						t.Errorf("decoded ahead to the end: %v, want %v", all, s.ahead)
					}
				}
			}
			got, _, err := readAhead(t, iotest.OneByteReader(bytes.NewReader(blob)), 0, 1)
			same(t, got, err, want, wantErr)
		})
	}
}

// manyFrames are short frames of all kinds, for the tests that damage them.
func manyFrames(t testing.TB) (b []byte) {
	for i := range 6 {
		b = append(b, frame(t, text(i*300, uint64(i)), zstd.WithEncoderCRC(i%2 == 0))...)
		b = append(b, skippable("skip")...)
	}
	return b
}

func TestEveryPrefixEndsAsDecodedSerially(t *testing.T) {
	blob := manyFrames(t)
	for n := range blob {
		want, wantErr := serially(bytes.NewReader(blob[:n]))
		got, _, err := readAhead(t, bytes.NewReader(blob[:n]), 0, 200)
		same(t, got, err, want, wantErr)
		if t.Failed() {
			t.Fatalf("at %d of %d bytes", n, len(blob))
		}
	}
}

func TestEveryDamagedByteEndsAsDecodedSerially(t *testing.T) {
	blob := manyFrames(t)
	for i := range blob {
		bad := bytes.Clone(blob)
		bad[i] ^= 0x55
		want, wantErr := serially(bytes.NewReader(bad))
		got, _, err := readAhead(t, bytes.NewReader(bad), 0, 200)
		same(t, got, err, want, wantErr)
		if t.Failed() {
			t.Fatalf("byte %d of %d", i, len(blob))
		}
	}
}

func TestAnErrorOfTheStreamIsTheReadersOwn(t *testing.T) {
	broken := errors.New("line is broken")
	blob := manyFrames(t)
	for _, cut := range []int{0, 10, len(blob) / 2, len(blob)} {
		stream := func() io.Reader { return io.MultiReader(bytes.NewReader(blob[:cut]), iotest.ErrReader(broken)) }
		want, wantErr := serially(stream())
		for _, after := range []int64{0, int64(len(want) / 2)} {
			got, _, err := readAhead(t, stream(), after, 100)
			same(t, got, err, want, wantErr)
		}
		if !errors.Is(wantErr, broken) {
			t.Errorf("serially: %v", wantErr)
		}
	}
}

func TestClosedAnywhereNothingIsLeft(t *testing.T) {
	var blob []byte
	for i := range 40 {
		blob = append(blob, frame(t, text(30_000, uint64(i)))...)
	}
	for _, n := range []int64{0, 1, 30_000, 500_000, 1_200_000} {
		z, err := NewReader(bytes.NewReader(blob), window)
		if err != nil {
			t.Fatal(err)
		}
		z.batch = 1
		z.Ahead(2)
		if _, err := io.CopyN(io.Discard, z, n); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPzstdsFramesAreDecodedAhead(t *testing.T) {
	pzstd, err := exec.LookPath("pzstd")
	if err != nil {
		t.Skip("needs pzstd")
	}
	data := text(20<<20, 1)
	file := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	blob, err := exec.Command(pzstd, "-1", "-p", "4", "-c", "-q", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	got, all, err := readAhead(t, bytes.NewReader(blob), 0, batchSize)
	if err != nil || !all || !bytes.Equal(got, data) {
		t.Errorf("%d of %d bytes, all ahead: %v, %v", len(got), len(data), all, err)
	}
}

func FuzzAhead(f *testing.F) {
	f.Add(manyFrames(f), uint16(100), uint16(10))
	f.Add(append(frame(f, text(500, 1)), skippable("skip")...), uint16(1), uint16(0))
	f.Add([]byte("\x28\xb5\x2f\xfd\x00\x58\x03\x00\x00x"), uint16(1), uint16(0))
	f.Fuzz(func(t *testing.T, blob []byte, batch, after uint16) {
		want, wantErr := serially(bytes.NewReader(blob))
		got, _, err := readAhead(t, bytes.NewReader(blob), min(int64(after), int64(len(want))), 1+int(batch))
		same(t, got, err, want, wantErr)
	})
}
