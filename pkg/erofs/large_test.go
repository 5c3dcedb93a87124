package erofs

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

func TestHolesOfAnImageTakeNoRoom(t *testing.T) {
	for _, c := range []struct {
		name    string
		size    int64
		data    []Region
		atMost  int64 // bytes of the image
		content string
	}{
		{"no data at all", 1 << 40, nil, 4096, ""},
		{"data at the start", 1 << 30, []Region{{0, 5}}, 1 << 20, "start"},
		{"data at the end", 1<<30 + 77, []Region{{1<<30 + 72, 5}}, 1 << 20, "the end"},
		{"data across chunks", 1 << 20, []Region{{4090, 12}, {9000, 1}, {9001, 5000}}, 40 << 10, "across"},
		{"all data after all", 100_000, []Region{{0, 50_000}, {50_000, 50_000}}, 130 << 10, "all"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dev := &sparse{}
			for _, r := range c.data {
				dev.put(r.Off+512, strings.Repeat(c.content, 1+int(r.Len)/len(c.content))[:r.Len])
			}
			root := &Inode{Mode: typeDir | 0o755, Entries: []Dirent{{"f", &Inode{
				Mode: typeRegular | 0o644, Size: c.size, Device: 1, Offset: 512, Sparse: true, Data: c.data,
			}}}}
			var b bytes.Buffer
			if _, err := WriteImage(&b, root, []Device{{Size: c.size + 512, Bytes: dev}}, Options{}); err != nil {
				t.Fatal(err)
			}
			if int64(b.Len()) > c.atMost {
				t.Errorf("%d bytes", b.Len())
			}
			path := t.TempDir() + "/image"
			writeFile(t, path, b.Bytes())
			f, err := os.Open(mount(t, path) + "f")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if fi, err := f.Stat(); err != nil || fi.Size() != c.size {
				t.Fatalf("%v, size %d", err, fi.Size())
			}
			for _, r := range append(c.data, Region{0, 1}, Region{c.size - 1, 1}, Region{c.size / 2, 1}) {
				from := max(0, r.Off-2)
				n := min(r.Len+4, c.size-from)
				got, want := make([]byte, n), make([]byte, n)
				if _, err := f.ReadAt(got, from); err != nil {
					t.Fatal(err)
				}
				dev.ReadAt(want, from+512)
				if !bytes.Equal(got, want) {
					t.Errorf("at %d: %q, want %q", from, got, want)
				}
			}
		})
	}
}

// sparse is a file of zeros with a few words in it.
type sparse struct{ words map[int64]string }

func (s *sparse) put(off int64, word string) {
	if s.words == nil {
		s.words = map[int64]string{}
	}
	s.words[off] = word
}

func (s *sparse) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	for at, w := range s.words {
		if from := at - off; from < 0 && -from < int64(len(w)) {
			copy(p, w[-from:])
		} else if from >= 0 && from < int64(len(p)) {
			copy(p[from:], w)
		}
	}
	return len(p), nil
}

// TestFilesAndDevicesBeyond4GiB has a file that begins behind 4 GiB, and one that
// is longer.
func TestFilesAndDevicesBeyond4GiB(t *testing.T) {
	const far, size = 5<<30 + 1024, 6 << 30
	dev := &sparse{}
	dev.put(far, "far away")
	dev.put(size-7, "the end")
	root := &Inode{Mode: typeDir | 0o755, Entries: []Dirent{
		{"far", &Inode{Mode: typeRegular | 0o644, Size: 8, Device: 1, Offset: far}},
		{"large", &Inode{Mode: typeRegular | 0o644, Size: size - 512, Device: 1, Offset: 512}},
	}}
	var b bytes.Buffer
	if _, err := WriteIndex(&b, root, []Device{{Size: size}}, Options{}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writeFile(t, dir+"/image", b.Bytes())
	f, err := os.Create(dir + "/device")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for off, w := range dev.words {
		if _, err := f.WriteAt([]byte(w), off); err != nil {
			t.Skipf("SKIPPED: needs a file system with large files: %v", err)
		}
	}
	root1 := mount(t, dir+"/image", dir+"/device")
	if got, err := os.ReadFile(root1 + "far"); err != nil || string(got) != "far away" {
		t.Errorf("far: %q, %v", got, err)
	}
	large, err := os.Open(root1 + "large")
	if err != nil {
		t.Fatal(err)
	}
	defer large.Close()
	got := make([]byte, 8)
	if _, err := large.ReadAt(got, far-512); err != nil || string(got) != "far away" {
		t.Errorf("in the middle: %q, %v", got, err)
	}
	if n, err := large.ReadAt(got, size-512-7); err != io.EOF || string(got[:n]) != "the end" {
		t.Errorf("at the end: %q, %v", got[:n], err)
	}
}

func TestManyDevices(t *testing.T) {
	const n = 300
	dir := t.TempDir()
	root := &Inode{Mode: typeDir | 0o755}
	var devices []Device
	var paths []string
	for k := range n {
		content := fmt.Sprintf("%0512d, on device %d", 0, k)
		path := fmt.Sprint(dir, "/", k)
		writeFile(t, path, append([]byte(content), make([]byte, 1024-len(content))...))
		devices = append(devices, Device{Size: 1024, Bytes: strings.NewReader(content)})
		paths = append(paths, path)
		root.Entries = append(root.Entries, Dirent{fmt.Sprint(k), &Inode{Mode: typeRegular | 0o644, Size: int64(len(content)) - 512, Device: k + 1, Offset: 512}})
	}
	var b bytes.Buffer
	if _, err := WriteIndex(&b, root, devices, Options{}); err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir+"/image", b.Bytes())
	mnt := mount(t, dir+"/image", paths...)
	for k := range n {
		got, err := os.ReadFile(fmt.Sprint(mnt, k))
		if want := fmt.Sprintf(", on device %d", k); err != nil || string(got) != want {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
}
