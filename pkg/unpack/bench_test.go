package unpack

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// BenchmarkSmallFiles unpacks 10 000 files of 600 bytes in 500 directories, half of
// them another user's, from memory to a tmpfs where there is one.
func BenchmarkSmallFiles(b *testing.B) {
	const files = 10000
	var text strings.Builder
	body := strings.Repeat("small ", 100)
	for i := range files {
		if i%20 == 0 {
			fmt.Fprintf(&text, "dir d%d own=1000:1000\n", i/20)
		}
		fmt.Fprintf(&text, "file d%d/f%d %q own=%d:7\n", i/20, i, body, i/20%2*1000)
	}
	src, img := imageOfText(text.String())
	work := workDir(b)
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Image(context.Background(), src, img, filepath.Join(work, fmt.Sprint(n)), Options{Form: Rootfs}); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/files, "µs/file")
	b.ReportMetric(0, "ns/op")
}
