package erofs

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestGolden compares two small file systems with testdata, byte by byte. A line
// there is an offset, bytes in hexadecimal, and what they mean; all other bytes
// are 0.
func TestGolden(t *testing.T) {
	for _, k := range kinds {
		tree := newTree()
		tree.file("a", 700)
		clear(tree.data)
		copy(tree.data[695:], "hello")
		tree.add("d/b", tree.root.Entries[0].Inode)
		tree.link("s", "a").Xattrs = []Xattr{{"user.k", "v"}}
		tree.root.Sec, tree.root.Nsec = 0x11223344, 5
		got := tree.write(t, k.write)
		want := readGolden(t, "testdata/"+k.name+".txt", len(got))
		for n := range want {
			if got[n] != want[n] {
				t.Errorf("%s: byte %#x is %#02x, want %#02x", k.name, n, got[n], want[n])
			}
		}
	}
}

func readGolden(t *testing.T, path string, size int) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	img := make([]byte, size)
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		off, err := strconv.ParseInt(f[0], 16, 64)
		for _, x := range f[1:] {
			for ; len(x) > 0 && err == nil; x = x[2:] {
				var b uint64
				b, err = strconv.ParseUint(x[:2], 16, 8)
				if off >= int64(size) {
					t.Fatalf("%s goes beyond %d bytes: %q", path, size, line)
				}
				img[off] = byte(b)
				off++
			}
		}
		if err != nil {
			t.Fatalf("%s: %q: %v", path, line, err)
		}
	}
	return img
}

func TestTheOrderOfEntriesDoesNotMatter(t *testing.T) {
	for _, c := range trees {
		for _, k := range kinds {
			tree := newTree()
			c.make(tree)
			first := tree.write(t, k.write)
			var shuffle func(d *Inode)
			shuffle = func(d *Inode) {
				tree.rnd.Shuffle(len(d.Entries), func(i, j int) { d.Entries[i], d.Entries[j] = d.Entries[j], d.Entries[i] })
				for _, e := range d.Entries {
					shuffle(e.Inode)
				}
			}
			shuffle(tree.root)
			if !bytes.Equal(first, tree.write(t, k.write)) {
				t.Errorf("%s, %s: other bytes", c.name, k.name)
			}
		}
	}
}
