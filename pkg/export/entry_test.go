package export

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAnEntryIsWrittenUnderTheNameThatIsGiven(t *testing.T) {
	dir := tree(t, mkdir("d", 0o755), file("d/f", 0o644, "f"), file("g", 0o600, "g"), symlink("l", "d"))
	for _, tc := range []struct {
		name, as string
		want     string
	}{
		{"d", "x/y", "5 0755 0:0 x/y/\n0 0644 0:0 x/y/f \"f\"\n"},
		{"g", "h", "0 0600 0:0 h \"g\"\n"},
		{"l", "m", "2 0777 0:0 m -> d\n"},
	} {
		f, err := os.OpenFile(dir+"/"+tc.name, unix.O_PATH|unix.O_NOFOLLOW, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var b bytes.Buffer
		if err := Entry(t.Context(), f, tc.as, &b, Options{}); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if got := list(t, b.Bytes()); got != tc.want {
			t.Errorf("%s: got\n%swant\n%s", tc.name, got, tc.want)
		}
	}
}

func TestWhatTheKernelShowsIsNoTree(t *testing.T) {
	for _, name := range []string{"/proc", "/proc/self/status", "/sys"} {
		f, err := os.OpenFile(name, unix.O_PATH, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var b bytes.Buffer
		if err := Entry(t.Context(), f, "x", &b, Options{}); !errors.Is(err, errNoFile) {
			t.Errorf("%s: %v, %d bytes", name, err, b.Len())
		}
	}
}
