package erofs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestWhatTheFormatCannotHaveIsRefused(t *testing.T) {
	file := func(change func(*Inode)) *Inode {
		i := &Inode{Mode: typeRegular | 0o644, Size: 10, Device: 1, Offset: 512}
		change(i)
		return i
	}
	under := func(name string, i *Inode) *Inode {
		return &Inode{Mode: typeDir | 0o755, Entries: []Dirent{{name, i}}}
	}
	good := file(func(*Inode) {})
	dir := &Inode{Mode: typeDir | 0o755}
	loop := &Inode{Mode: typeDir | 0o755}
	loop.Entries = []Dirent{{"again", loop}}
	for _, c := range []struct {
		name string
		root *Inode
		path string
		want error
	}{
		{"no root", nil, "/", ErrRoot},
		{"a file as root", good, "/", ErrRoot},
		{"an empty name", under("", good), "/", ErrName},
		{"a name with a slash", under("a/b", good), "/a/b", ErrName},
		{"a name with a NUL", under("a\x00", good), "/a\x00", ErrName},
		{"the name .", under(".", good), "/.", ErrName},
		{"the name ..", under("..", good), "/..", ErrName},
		{"a name of 256 bytes", under(strings.Repeat("n", 256), good), "/" + strings.Repeat("n", 256), ErrName},
		{"one name twice", &Inode{Mode: typeDir, Entries: []Dirent{{"a", good}, {"b", good}, {"a", dir}}}, "/a", ErrTwice},
		{"a directory with two names", &Inode{Mode: typeDir, Entries: []Dirent{{"a", dir}, {"b", dir}}}, "/b", ErrLoop},
		{"a directory in itself", loop, "/again", ErrLoop},
		{"a name of nothing", under("a", nil), "/a", ErrType},
		{"no type", under("a", &Inode{}), "/a", ErrType},
		{"a type of its own", under("a", &Inode{Mode: 0o030000}), "/a", ErrType},
		{"a mode beyond 16 bits", under("a", file(func(i *Inode) { i.Mode |= 1 << 16 })), "/a", ErrRange},
		{"a nanosecond too many", under("a", file(func(i *Inode) { i.Nsec = 1e9 })), "/a", ErrRange},
		{"a negative size", under("a", file(func(i *Inode) { i.Size = -1 })), "/a", ErrRange},
		{"an empty target", under("a", &Inode{Mode: typeSymlink}), "/a", ErrTarget},
		{"a target with a NUL", under("a", &Inode{Mode: typeSymlink, Target: "a\x00b"}), "/a", ErrTarget},
		{"a target of 4096 bytes", under("a", &Inode{Mode: typeSymlink, Target: strings.Repeat("t", 4096)}), "/a", ErrTarget},
		{"a device number of 13 bits", under("a", &Inode{Mode: typeChar, Rdev: Rdev{1 << 12, 0}}), "/a", ErrRange},
		{"a device number of 21 bits", under("a", &Inode{Mode: typeBlock, Rdev: Rdev{0, 1 << 20}}), "/a", ErrRange},
		{"a file on no device", under("a", file(func(i *Inode) { i.Device = 0 })), "/a", ErrPlace},
		{"a file on a device that is not there", under("a", file(func(i *Inode) { i.Device = 2 })), "/a", ErrPlace},
		{"a file between blocks", under("a", file(func(i *Inode) { i.Offset = 100 })), "/a", ErrPlace},
		{"a file before its device", under("a", file(func(i *Inode) { i.Offset = -512 })), "/a", ErrPlace},
		{"a file behind its device", under("a", file(func(i *Inode) { i.Offset = 2048 })), "/a", ErrPlace},
		{"a file that ends behind its device", under("a", file(func(i *Inode) { i.Size = 513 })), "/a", ErrPlace},
		{"a size that overflows", under("a", file(func(i *Inode) { i.Size = 1<<63 - 1 })), "/a", ErrPlace},
		{"data behind the file", under("a", file(func(i *Inode) { i.Sparse, i.Data = true, []Region{{9, 2}} })), "/a", ErrPlace},
		{"data twice", under("a", file(func(i *Inode) { i.Sparse, i.Data = true, []Region{{0, 2}, {1, 2}} })), "/a", ErrPlace},
		{"data of no bytes", under("a", file(func(i *Inode) { i.Sparse, i.Data = true, []Region{{0, 0}} })), "/a", ErrPlace},
		{"an attribute of no namespace", under("a", file(func(i *Inode) { i.Xattrs = []Xattr{{"x", "y"}} })), "/a", ErrXattr},
		{"an attribute of a namespace unknown", under("a", file(func(i *Inode) { i.Xattrs = []Xattr{{"system.x", "y"}} })), "/a", ErrXattr},
		{"an attribute of a namespace alone", under("a", file(func(i *Inode) { i.Xattrs = []Xattr{{"user.", "y"}} })), "/a", ErrXattr},
		{"an access control list with a longer name", under("a", file(func(i *Inode) { i.Xattrs = []Xattr{{"system.posix_acl_access.x", "y"}} })), "/a", ErrXattr},
		{"an attribute twice", under("a", file(func(i *Inode) { i.Xattrs = []Xattr{{"user.a", "y"}, {"user.a", "z"}} })), "/a", ErrXattr},
		{"an attribute of 64 KiB", under("a", file(func(i *Inode) { i.Xattrs = []Xattr{{"user.a", strings.Repeat("v", 1<<16)}} })), "/a", ErrXattr},
		{"attributes of 300 KiB", under("a", file(func(i *Inode) {
			for n := range 5 {
				i.Xattrs = append(i.Xattrs, Xattr{fmt.Sprint("user.", n), strings.Repeat("v", 60_000)})
			}
		})), "/", ErrXattr},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, k := range kinds {
				var b bytes.Buffer
				_, err := k.write(&b, c.root, []Device{{Size: 1024, Bytes: bytes.NewReader(make([]byte, 1024))}}, Options{})
				var e *Error
				if !errors.Is(err, c.want) || !errors.As(err, &e) || e.Path != c.path {
					t.Errorf("%s: %v, want %v at %q", k.name, err, c.want, c.path)
				}
				if b.Len() > 0 {
					t.Errorf("%s: %d bytes written", k.name, b.Len())
				}
			}
		})
	}
}

func TestDevicesThatCannotBeAreRefused(t *testing.T) {
	root := &Inode{Mode: typeDir | 0o755}
	for _, c := range []struct {
		name    string
		devices []Device
		want    error
	}{
		{"a negative size", []Device{{Size: -512}}, ErrRange},
		{"a part of a block", []Device{{Size: 1000}}, ErrRange},
		{"a long tag", []Device{{Tag: strings.Repeat("t", 65)}}, ErrRange},
		{"too many blocks", []Device{{Size: 1 << 41}}, ErrTooBig},
		{"too many", make([]Device, 1<<13+1), ErrDevices},
	} {
		if _, err := WriteIndex(io.Discard, root, c.devices, Options{}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := WriteIndex(io.Discard, root, make([]Device, 1<<13), Options{}); err != nil {
		t.Error(err)
	}
}

func TestErrorsOfReaderAndWriterComeThrough(t *testing.T) {
	tree := newTree()
	tree.file("f", 1<<20)
	broken := errors.New("broken")
	if _, err := WriteIndex(failing{broken}, tree.root, tree.devices(), Options{}); !errors.Is(err, broken) {
		t.Error(err)
	}
	if _, err := WriteImage(failing{broken}, tree.root, tree.devices(), Options{}); !errors.Is(err, broken) {
		t.Error(err)
	}
	short := []Device{{Size: 1 << 20, Bytes: bytes.NewReader(tree.data[:1<<19])}}
	if _, err := WriteImage(io.Discard, tree.root, short, Options{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
