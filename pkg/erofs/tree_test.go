package erofs

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// tree makes trees for tests, whose files' bytes lie on device 1, each at the next
// multiple of 512, as in a tar.
type tree struct {
	root *Inode
	data []byte
	rnd  *rand.Rand
}

func newTree() *tree {
	return &tree{root: &Inode{Mode: typeDir | 0o755}, rnd: rand.New(rand.NewPCG(1, 2))}
}

func (t *tree) devices() []Device {
	return []Device{{Size: int64(len(t.data)), Tag: "test", Bytes: bytes.NewReader(t.data)}}
}

// add gives i the name at path, in directories that are there or are made.
func (t *tree) add(path string, i *Inode) *Inode {
	dir := t.root
	parts := strings.Split(path, "/")
	for _, p := range parts[:len(parts)-1] {
		n := slices.IndexFunc(dir.Entries, func(e Dirent) bool { return e.Name == p })
		if n < 0 {
			n = len(dir.Entries)
			dir.Entries = append(dir.Entries, Dirent{p, &Inode{Mode: typeDir | 0o755}})
		}
		dir = dir.Entries[n].Inode
	}
	dir.Entries = append(dir.Entries, Dirent{parts[len(parts)-1], i})
	return i
}

func (t *tree) file(path string, size int) *Inode {
	i := &Inode{Mode: typeRegular | 0o644, Size: int64(size), Device: 1, Offset: int64(len(t.data))}
	b := make([]byte, alignUp(int64(size), 512))
	for k := range b[:size] {
		b[k] = byte(t.rnd.Uint32())
	}
	t.data = append(t.data, b...)
	return t.add(path, i)
}

func (t *tree) dir(path string) *Inode { return t.add(path, &Inode{Mode: typeDir | 0o755}) }
func (t *tree) link(path, to string) *Inode {
	return t.add(path, &Inode{Mode: typeSymlink | 0o777, Target: to})
}

// shape says all that there is to know about a file. Readers make the same of what
// they read.
type shape struct {
	path     string
	mode     uint32
	uid, gid uint32
	sec      int64
	nsec     uint32
	links    int
	size     int64 // but of a directory
	rdev     Rdev
	target   string
	xattrs   map[string]string
	sum      string // of a file's bytes
}

func (s shape) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q %o %d:%d %d.%09d links=%d", s.path, s.mode, s.uid, s.gid, s.sec, s.nsec, s.links)
	switch s.mode & typeMask {
	case typeRegular:
		fmt.Fprintf(&b, " %d bytes %s", s.size, s.sum)
	case typeSymlink:
		fmt.Fprintf(&b, " -> %q", s.target)
	case typeChar, typeBlock:
		fmt.Fprintf(&b, " %d:%d", s.rdev.Major, s.rdev.Minor)
	}
	var names []string
	for k, v := range s.xattrs {
		names = append(names, fmt.Sprintf(" %q=%x", k, sha256.Sum256([]byte(v))))
	}
	slices.Sort(names)
	return b.String() + strings.Join(names, "")
}

// shapes is the tree as it should come out, by names in order. It counts links by
// itself.
func (t *tree) shapes(tb testing.TB) string {
	links := map[*Inode]int{t.root: 2}
	var count func(d *Inode)
	count = func(d *Inode) {
		for _, e := range d.Entries {
			links[e.Inode]++
			if e.Inode.is(typeDir) {
				links[e.Inode]++
				links[d]++
				count(e.Inode)
			}
		}
	}
	count(t.root)
	var lines []string
	var visit func(path string, i *Inode)
	visit = func(path string, i *Inode) {
		s := shape{path: path, mode: i.Mode, uid: i.UID, gid: i.GID, sec: i.Sec, nsec: i.Nsec, links: links[i],
			size: i.Size, rdev: i.Rdev, target: i.Target, xattrs: map[string]string{}}
		for _, x := range i.Xattrs {
			s.xattrs[x.Name] = x.Value
		}
		if i.is(typeRegular) {
			s.sum = sumOf(tb, io.NewSectionReader(bytes.NewReader(t.data), i.Offset, i.Size))
		}
		lines = append(lines, s.String())
		for _, e := range i.Entries {
			visit(path+"/"+e.Name, e.Inode)
		}
	}
	visit("", t.root)
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func sumOf(tb testing.TB, r io.Reader) string {
	tb.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		tb.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8])
}

// kinds are the two ways to write a tree.
var kinds = []struct {
	name  string
	write func(io.Writer, *Inode, []Device, Options) (int64, error)
}{{"index", WriteIndex}, {"image", WriteImage}}

// trees are what all readers must read right.
var trees = []struct {
	name string
	make func(*tree)
}{
	{"nothing but a root", func(t *tree) {}},
	{"the root has attributes", func(t *tree) {
		t.root.Mode, t.root.UID, t.root.Sec = typeDir|0o1777, 1000, 7
		t.root.Xattrs = []Xattr{{"trusted.x", "of the root"}}
	}},
	{"one of each type", func(t *tree) {
		t.file("file", 3)
		t.dir("dir")
		t.link("link", "file")
		t.add("char", &Inode{Mode: typeChar | 0o666, Rdev: Rdev{1, 3}})
		t.add("block", &Inode{Mode: typeBlock | 0o660, Rdev: Rdev{4095, 1<<20 - 1}})
		t.add("fifo", &Inode{Mode: typeFifo | 0o600})
		t.add("socket", &Inode{Mode: typeSocket | 0o600})
	}},
	{"owners, modes and times", func(t *tree) {
		for n, mode := range []uint32{0, 0o7777, 0o4755, 0o2755, 0o1777} {
			i := t.file(fmt.Sprint("f", n), 1)
			i.Mode, i.UID, i.GID = typeRegular|mode, 1<<32-2-uint32(n), 70000
			i.Sec, i.Nsec = []int64{0, -1, 1 << 33, -1 << 40, 1}[n], []uint32{0, 1, 999_999_999, 5, 500_000_000}[n]
		}
	}},
	{"files of sizes around blocks", func(t *tree) {
		for _, size := range []int{0, 1, 447, 448, 449, 511, 512, 513, 1024, 4031, 4032, 4033, 4095, 4096, 4097, 8192, 100_000, 1 << 20, 1<<20 + 1} {
			t.file(fmt.Sprintf("f%d", size), size)
		}
	}},
	{"symlinks of lengths around blocks", func(t *tree) {
		for _, n := range []int{1, 447, 448, 449, 512, 513, 1023, 1024, 2000, 4031, 4032, 4033, 4095} {
			t.link(fmt.Sprintf("l%d", n), strings.Repeat("x", n-1)+"y")
		}
	}},
	{"names around the dots", func(t *tree) {
		for _, n := range []string{"-", "+a", ".-", "..-", "...", ".a", "..a", " ", "!", "\x01", "\xff", "0", "a\nb", ".,", "..,", "/"[:0] + "é"} {
			t.file("d/"+n, 1)
			t.dir("e/" + n)
		}
	}},
	{"directories of sizes around blocks", func(t *tree) {
		for n := range 45 {
			for k := range n {
				t.link(fmt.Sprintf("d%d/%0*d", n, 3+n%7, k), "x")
			}
		}
	}},
	{"long names and many of them", func(t *tree) {
		for n := range 3000 {
			t.link(fmt.Sprintf("many/%d", n), "x")
		}
		for n := range 40 {
			t.link(fmt.Sprintf("long/%0255d", n), "x")
		}
	}},
	{"a deep tree", func(t *tree) { t.file(strings.Repeat("d/", 300)+"f", 10) }},
	{"hard links", func(t *tree) {
		f := t.file("a", 1000)
		t.add("b", f)
		t.add("d/c", f)
		l := t.link("d/l", "a")
		t.add("d/m", l)
		t.add("d/n/o", t.add("null", &Inode{Mode: typeChar | 0o666, Rdev: Rdev{1, 3}}))
	}},
	{"extended attributes, shared and not", func(t *tree) {
		acl := "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x07\x00\xe8\x03\x00\x00\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x07\x00\xff\xff\xff\xff\x20\x00\x04\x00\xff\xff\xff\xff"
		capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
		for n := range 5 {
			i := t.file(fmt.Sprint("f", n), 600)
			i.Mode = typeRegular | 0o674
			i.Xattrs = []Xattr{{"user.same", "value"}, {"user.own", fmt.Sprint(n)}, {"security.capability", capability}, {"system.posix_acl_access", acl}}
		}
		t.dir("d").Xattrs = []Xattr{{"system.posix_acl_default", acl}, {"user.same", "value"}, {"user.empty", ""}}
		t.link("l", "f1").Xattrs = []Xattr{{"security.x", "of a link"}, {"trusted.y", strings.Repeat("z", 500)}}
		t.file("big", 10).Xattrs = []Xattr{{"user.big", strings.Repeat("b", 65535)}, {"user." + strings.Repeat("n", 250), "x"}}
		var many []Xattr
		for n := range 200 {
			many = append(many, Xattr{fmt.Sprint("user.", n), strings.Repeat("v", n)})
		}
		t.dir("many").Xattrs = many
		t.file("many/f", 10).Xattrs = many
	}},
	{"shared attributes beyond what the root's nid reaches", func(t *tree) {
		for n := range 40 {
			x := []Xattr{{"user.big", fmt.Sprintf("%060000d", n)}}
			t.file(fmt.Sprint("a", n), 1).Xattrs = x
			t.file(fmt.Sprint("b", n), 1).Xattrs = x
		}
	}},
	{"more than 255 shared attributes", func(t *tree) {
		var many []Xattr
		for n := range 300 {
			many = append(many, Xattr{fmt.Sprint("user.", n), "v"})
		}
		t.file("a", 1).Xattrs = many
		t.file("b", 1).Xattrs = many
	}},
}

func (t *tree) write(tb testing.TB, how func(io.Writer, *Inode, []Device, Options) (int64, error)) []byte {
	tb.Helper()
	var b bytes.Buffer
	n, err := how(&b, t.root, t.devices(), Options{UUID: [16]byte{1, 2, 3}, Label: "test"})
	if err != nil {
		tb.Fatal(err)
	}
	if n != int64(b.Len()) || n%512 != 0 {
		tb.Fatalf("%d bytes written, %d counted", b.Len(), n)
	}
	return b.Bytes()
}
