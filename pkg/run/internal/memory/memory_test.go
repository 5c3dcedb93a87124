package memory

import (
	"slices"
	"strings"
	"testing"
)

func TestOnlyPagesThatTheFileStillHasAreDropped(t *testing.T) {
	const smaps = `00400000-00500000 r-xp 00000000 fe:00 1234 /bin/peel
Size:               1024 kB
Anonymous:             0 kB
00500000-00600000 r--p 00100000 fe:00 1234 /bin/peel
Anonymous:             0 kB
00600000-00700000 rw-p 00200000 fe:00 1234 /bin/peel
Anonymous:             0 kB
00700000-00800000 r--p 00000000 fe:00 99 /lib/libc.so.6
Anonymous:             4 kB
00800000-00900000 r--s 00000000 fe:00 98 /shared
Anonymous:             0 kB
7f0000000000-7f0000001000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
00a00000-00b00000 ---p 00000000 fe:00 1234 /bin/peel
Anonymous:             0 kB
`
	want := []mapping{{0x400000, 0x500000}, {0x500000, 0x600000}}
	if got := cleanMappings(strings.NewReader(smaps)); !slices.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}
