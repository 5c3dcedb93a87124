package layers

import (
	"bytes"
	"io"
	"testing"
)

// A layer of 64 MiB through all stages. The rate is wall clock: with a free core
// hashing costs no time, and nothing here allocates per chunk.
func BenchmarkReader(b *testing.B) {
	data := contents(64 << 20)
	for _, c := range []Compression{None, Gzip, Zstd} {
		blob := pack(b, c, data)
		b.Run(string(c), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				r, err := Open(mediaTypes[c], bytes.NewReader(blob))
				if err != nil {
					b.Fatal(err)
				}
				for {
					c, err := r.Next()
					if err == io.EOF {
						break
					}
					if err != nil {
						b.Fatal(err)
					}
					c.Release()
				}
				r.pipe.digest()
				r.Close()
			}
		})
	}
}
