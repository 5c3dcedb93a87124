//go:build linux

package inflate

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

// guarded returns n bytes with memory behind them, and with atStart before them,
// whose touch kills the process.
func guarded(t testing.TB, n int, atStart bool) []byte {
	t.Helper()
	page := unix.Getpagesize()
	size := (n + page - 1) / page * page
	m, err := unix.Mmap(-1, 0, size+2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(m) })
	for _, guard := range [][]byte{m[:page], m[page+size:]} {
		if err := unix.Mprotect(guard, unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	if atStart {
		return m[page:][:n:n]
	}
	return m[page+size-n:][:n:n]
}

func TestNothingIsTouchedOutsideInputAndWindow(t *testing.T) {
	for name, data := range samples() {
		rnd := rand.New(rand.NewPCG(9, uint64(len(data))))
		for _, level := range []int{-2, 0, 1, 6, 10} {
			data := data[:min(len(data), 60_000)]
			z := deflate(t, data, level)
			for i := range 8 {
				damaged := bytes.Clone(z)
				if i > 3 {
					damaged[rnd.IntN(len(z))] ^= 1 << rnd.IntN(8)
				}
				for _, l := range loops {
					for _, atStart := range []bool{false, true} {
						t.Run(fmt.Sprintf("%s/%d/%d/%s/%v", name, level, i, l.name, atStart), func(t *testing.T) {
							input := guarded(t, len(z), atStart)
							copy(input, damaged)
							// A window that the output fits, hardly fits, or does not.
							window := guarded(t, max(0, len(data)+rnd.IntN(3*Slack)-Slack), atStart)
							in := Input{view: input, err: io.EOF}
							d := Decoder{using: l.kind}
							d.Reset(&in)
							end, err := d.Decode(window, 0)
							if i <= 3 && !bytes.Equal(window[:end], data[:end]) {
								t.Errorf("%d bytes, %v", end, err)
							}
						})
					}
				}
			}
		}
	}
}
