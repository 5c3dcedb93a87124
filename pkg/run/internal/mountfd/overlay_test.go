package mountfd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOverlaysOfAnyNames(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root")
	}
	for _, c := range []struct{ name, dir string }{
		{"plain", "d"},
		{"what separates and escapes", `a:b\c,d`},
		{"longer than a word may be", strings.Repeat("long/", 60)},
		{"longer, with what separates", strings.Repeat("lo:ng/", 60)},
	} {
		for _, layers := range []int{1, 3, 12} {
			t.Run(fmt.Sprintf("%s, %d layers", c.name, layers), func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), c.dir)
				o := Overlay{Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work")}
				for i := range layers {
					o.Lower = append(o.Lower, filepath.Join(dir, fmt.Sprint("lower", i)))
				}
				for i, d := range append([]string{o.Upper, o.Work}, o.Lower...) {
					if err := os.MkdirAll(d, 0o755); err != nil {
						t.Fatal(err)
					}
					if i >= 2 {
						if err := os.WriteFile(filepath.Join(d, fmt.Sprint("file", i-2)), nil, 0o644); err != nil {
							t.Fatal(err)
						}
					}
				}
				fd, err := NewOverlay(o)
				if err != nil {
					t.Fatal(err)
				}
				defer unix.Close(fd)
				for i := range layers {
					if err := unix.Faccessat(fd, fmt.Sprint("file", i), unix.F_OK, 0); err != nil {
						t.Errorf("file%d: %v", i, err)
					}
				}
				f, err := unix.Openat(fd, "new", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
				if err != nil {
					t.Fatal(err)
				}
				unix.Close(f)
				if _, err := os.Stat(filepath.Join(o.Upper, "new")); err != nil {
					t.Error(err)
				}
			})
		}
	}
}
