package tar

import (
	stdtar "archive/tar"
	"bytes"
	"fmt"
	"io"
	"testing"

	"peel/pkg/layers"
)

// benchArchive is shaped like a layer of node modules: many small files, deep
// names, and an extended header for one entry in eight.
func benchArchive(entries int) []byte {
	var buf bytes.Buffer
	for i := range entries {
		name := fmt.Sprintf("usr/src/app/node_modules/module-%03d/lib/file-%05d.js", i%300, i)
		if i%8 == 0 {
			buf.WriteString(pax('x', "mtime=1700000000.123456789", "SCHILY.xattr.user.a=b"))
		}
		n := i * 37 % 2500
		buf.WriteString(raw{name: name, uid: "0001750", gid: "0001750", mtime: "14524610400", size: octalSize(n)}.String())
		buf.Write(make([]byte, int64(n)+padding(int64(n))))
	}
	return append(buf.Bytes(), make([]byte, 2*blockSize)...)
}

// slab is a Source of chunks as large as those of a layer, without a copy.
type slab []byte

func (s *slab) Next() (*layers.Chunk, error) {
	if len(*s) == 0 {
		return nil, io.EOF
	}
	n := min(layers.ChunkSize, len(*s))
	c := layers.NewChunk((*s)[:n:n], nil)
	*s = (*s)[n:]
	return c, nil
}

// hideSeek keeps archive/tar from skipping bodies by Seek, which a layer's stream
// does not have.
type hideSeek struct{ io.Reader }

func BenchmarkRead(b *testing.B) {
	const entries = 20000
	data := benchArchive(entries)
	perEntry := func(b *testing.B) {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/entries, "ns/entry")
	}
	b.Run("peel", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			src := slab(data)
			r := NewReader(&src, Limits{})
			for n := 0; ; n++ {
				_, err := r.Next()
				if err == io.EOF && n == entries {
					break
				}
				if err != nil {
					b.Fatal(err)
				}
				for err == nil {
					_, err = r.Piece()
				}
			}
		}
		perEntry(b)
	})
	b.Run("archive-tar", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r := stdtar.NewReader(hideSeek{bytes.NewReader(data)})
			for n := 0; ; n++ {
				_, err := r.Next()
				if err == io.EOF && n == entries {
					break
				}
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, r); err != nil {
					b.Fatal(err)
				}
			}
		}
		perEntry(b)
	})
}
