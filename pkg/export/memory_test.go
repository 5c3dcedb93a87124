package export

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"peel/pkg/erofs"
	"peel/pkg/progress"
)

// memoryTree is a tree in memory with all that one can hold.
func memoryTree() (*erofs.Inode, []erofs.Device) {
	device := make([]byte, 2048)
	copy(device[512:], "hello")
	copy(device[1024:], "world")
	reg := func(device int, off, size int64) *erofs.Inode {
		return &erofs.Inode{Mode: unix.S_IFREG | 0o644, Sec: 1e9, Device: device, Offset: off, Size: size}
	}
	twice := reg(1, 512, 5)
	twice.UID, twice.GID, twice.Mode = 1000, 3000000, unix.S_IFREG|0o4755
	twice.Xattrs = []erofs.Xattr{{Name: "user.z", Value: "2"}, {Name: "user.a", Value: "1"}, {Name: "trusted.overlay.opaque", Value: "y"}}
	root := &erofs.Inode{Mode: unix.S_IFDIR | 0o711, Sec: 1e9, Entries: []erofs.Dirent{
		{Name: "z", Inode: twice},
		{Name: "b.d", Inode: reg(2, 0, 0)},
		{Name: "b", Inode: &erofs.Inode{Mode: unix.S_IFDIR | 0o1777, Sec: 1e9, Entries: []erofs.Dirent{
			{Name: "y", Inode: twice}, {Name: ".wh.x", Inode: reg(1, 1024, 5)},
		}}},
		{Name: "l", Inode: &erofs.Inode{Mode: unix.S_IFLNK | 0o777, Sec: 1e9, Target: "/etc/shadow"}},
		{Name: "c", Inode: &erofs.Inode{Mode: unix.S_IFCHR | 0o620, Sec: 1e9, Rdev: erofs.Rdev{Major: 5, Minor: 1}}},
		{Name: "k", Inode: &erofs.Inode{Mode: unix.S_IFBLK | 0o660, Sec: 1e9, Rdev: erofs.Rdev{Major: 8, Minor: 300}}},
		{Name: "p", Inode: &erofs.Inode{Mode: unix.S_IFIFO | 0o600, Sec: -5, Nsec: 7}},
	}}
	return root, []erofs.Device{{Size: 2048, Bytes: bytes.NewReader(device)}, {}}
}

func TestInMemory(t *testing.T) {
	root, devices := memoryTree()
	var b bytes.Buffer
	if err := InMemory(context.Background(), root, devices, &b, Options{}); err != nil {
		t.Fatal(err)
	}
	const want = `5 1777 0:0 b/
0 0644 0:0 b/.wh.x "world"
0 4755 1000:3000000 b/y "hello" user.a="1" user.z="2"
0 0644 0:0 b.d ""
3 0620 0:0 c 5,1
4 0660 0:0 k 8,300
2 0777 0:0 l -> /etc/shadow
6 0600 0:0 p
1 4755 1000:3000000 z -> b/y
`
	if got := list(t, b.Bytes()); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	b.Reset()
	var warned string
	o := Options{Kind: Layer, Progress: warnTo(&warned)}
	if err := InMemory(context.Background(), root, devices, &b, o); err != nil {
		t.Fatal(err)
	}
	layer := "5 0711 0:0 ./\n" + strings.Replace(want, "0 0644 0:0 b/.wh.x \"world\"\n", "", 1)
	if got := list(t, b.Bytes()); got != layer {
		t.Errorf("as a layer, got\n%swant\n%s", got, layer)
	}
	if !strings.Contains(warned, `"b/.wh.x": left out`) {
		t.Errorf("warned %q", warned)
	}
}

func TestInMemorySparseFile(t *testing.T) {
	const size = 8 << 20
	data := make([]byte, size)
	copy(data[4<<20:], "middle")
	f := &erofs.Inode{Mode: unix.S_IFREG | 0o644, Size: size, Device: 1, Sparse: true, Data: []erofs.Region{{Off: 4 << 20, Len: 6}}}
	root := &erofs.Inode{Mode: unix.S_IFDIR, Entries: []erofs.Dirent{{Name: "f", Inode: f}}}
	var b bytes.Buffer
	if err := InMemory(context.Background(), root, []erofs.Device{{Size: size, Bytes: bytes.NewReader(data)}}, &b, Options{}); err != nil {
		t.Fatal(err)
	}
	if b.Len() > 8<<10 {
		t.Errorf("the archive has %d bytes", b.Len())
	}
	r := tar.NewReader(&b)
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read back %d bytes, %v", len(got), err)
	}
}

func TestInMemoryDeviceThatIsTooShortIsAnError(t *testing.T) {
	root, devices := memoryTree()
	devices[0].Bytes = bytes.NewReader(make([]byte, 514))
	err := InMemory(context.Background(), root, devices, io.Discard, Options{})
	var entry *EntryError
	if !errors.As(err, &entry) || entry.Name != "b/.wh.x" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

func warnTo(message *string) progress.Func {
	return func(e progress.Event) { *message += e.Message }
}

// A large file of a device that is a file goes into a pipe by another way. It must
// make no difference.
func TestPipeGetsTheSameArchiveOfATreeInMemory(t *testing.T) {
	data := make([]byte, 5*sendFrom)
	for i := range data {
		data[i] = byte(i >> 9)
	}
	device, err := os.Create(t.TempDir() + "/device")
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	if _, err := device.Write(data); err != nil {
		t.Fatal(err)
	}
	reg := func(off, size int64) *erofs.Inode {
		return &erofs.Inode{Mode: unix.S_IFREG | 0o644, Device: 1, Offset: off, Size: size}
	}
	root := &erofs.Inode{Mode: unix.S_IFDIR, Entries: []erofs.Dirent{
		{Name: "a", Inode: reg(512, sendFrom+1)}, {Name: "b", Inode: reg(1024, 5)}, {Name: "c", Inode: reg(2048, 3*sendFrom)},
	}}
	var want, got bytes.Buffer
	if err := InMemory(t.Context(), root, []erofs.Device{{Bytes: bytes.NewReader(data)}}, &want, Options{}); err != nil {
		t.Fatal(err)
	}
	toPipe := func() error {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		var reader sync.WaitGroup
		reader.Go(func() { io.Copy(&got, r) })
		err = InMemory(t.Context(), root, []erofs.Device{{Bytes: device}}, w, Options{})
		w.Close()
		reader.Wait()
		r.Close()
		return err
	}
	if err := toPipe(); err != nil || !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Errorf("a pipe gets %d bytes, a buffer %d; %v", got.Len(), want.Len(), err)
	}
	if err := device.Truncate(2 * sendFrom); err != nil {
		t.Fatal(err)
	}
	var entry *EntryError
	if err := toPipe(); !errors.As(err, &entry) || entry.Name != "c" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("of a device that was cut off: %v", err)
	}
}
