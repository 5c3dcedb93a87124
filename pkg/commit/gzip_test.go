package commit

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"peel/pkg/layers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tarlike is data that is compressible in some places only.
func tarlike(n int) []byte {
	r := rand.New(rand.NewPCG(uint64(n), 0))
	b := make([]byte, n)
	for i := range b {
		if i>>12&1 == 0 {
			b[i] = byte(r.Uint32())
		} else {
			b[i] = byte(i >> 3)
		}
	}
	return b
}

func TestWhatIsCompressedComesBack(t *testing.T) {
	for _, size := range []int{0, 1, gzipPieceSize - 1, gzipPieceSize, gzipPieceSize + 1, 4*gzipPieceSize + 5} {
		data := tarlike(size)
		var first []byte
		for _, workers := range []int{1, 3} {
			var b bytes.Buffer
			z := newGzipWriter(&b, workers)
			for rest := data; len(rest) > 0; { // in writes of any size
				n := min(len(rest), 100_001)
				if _, err := z.Write(rest[:n]); err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			if err := z.Close(); err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first = bytes.Clone(b.Bytes())
			} else if !bytes.Equal(first, b.Bytes()) {
				t.Errorf("%d bytes: other bytes with %d workers", size, workers)
			}
			r, err := gzip.NewReader(&b)
			if err != nil {
				t.Fatal(err)
			}
			r.Multistream(false)
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes: %d come back, %v", size, len(got), err)
			}
			if b.Len() > 0 {
				t.Errorf("%d bytes: %d are left behind the member", size, b.Len())
			}
		}
	}
}

func TestCompressors(t *testing.T) {
	data := tarlike(3 << 20)
	for _, tc := range []struct {
		c         layers.Compression
		mediaType string
		open      func(io.Reader) (io.Reader, error)
	}{
		{"", "application/vnd.oci.image.layer.v1.tar+gzip", func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }},
		{layers.Zstd, "application/vnd.oci.image.layer.v1.tar+zstd", func(r io.Reader) (io.Reader, error) {
			return zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
		}},
		{layers.None, "application/vnd.oci.image.layer.v1.tar", func(r io.Reader) (io.Reader, error) { return r, nil }},
	} {
		mediaType, compress, err := compressor(tc.c)
		if err != nil || mediaType != tc.mediaType {
			t.Fatalf("%q: %s, %v", tc.c, mediaType, err)
		}
		var b bytes.Buffer
		z, err := compress(&b)
		if err != nil {
			t.Fatal(err)
		}
		z.Write(data)
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		r, err := tc.open(&b)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%q: %d bytes come back, %v", tc.c, len(got), err)
		}
	}
	if _, _, err := compressor("xz"); err == nil {
		t.Error("xz is taken")
	}
}

type failingWriter struct{ after int }

var errFull = errors.New("full")

func (w *failingWriter) Write(b []byte) (int, error) {
	if w.after -= len(b); w.after < 0 {
		return 0, errFull
	}
	return len(b), nil
}

func TestErrorOfTheWriterIsToldAtTheLatestByClose(t *testing.T) {
	for _, after := range []int{0, 5000, 1 << 20} {
		z := newGzipWriter(&failingWriter{after}, 2)
		_, err := io.Copy(z, bytes.NewReader(tarlike(3<<20)))
		if closed := z.Close(); !errors.Is(closed, errFull) {
			t.Errorf("after %d: Close says %v, Write %v", after, closed, err)
		}
	}
}

func BenchmarkGzip(b *testing.B) {
	data := []byte(strings.Repeat("usr/lib/x86_64-linux-gnu/libc.so.6 is a text of sorts\n", 1<<18))
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		z := newGzipWriter(io.Discard, 2)
		z.Write(data)
		z.Close()
	}
}
