package export

import (
	"bytes"
	"context"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"peel/pkg/erofs"
)

// What the kernel would show, by Documentation/filesystems/overlayfs.rst.
func TestOverlay(t *testing.T) {
	needRoot(t)
	device := []byte("lower")
	reg := func() *erofs.Inode {
		return &erofs.Inode{Mode: unix.S_IFREG | 0o600, Sec: 1e9, Device: 1, Size: int64(len(device))}
	}
	dir := func(entries ...erofs.Dirent) *erofs.Inode {
		return &erofs.Inode{Mode: unix.S_IFDIR | 0o700, Sec: 1e9, Entries: entries}
	}
	for _, tc := range []struct {
		claim string
		lower []erofs.Dirent
		upper []step
		o     Options
		want  string
	}{
		{
			claim: "names of both are sorted together",
			lower: []erofs.Dirent{{Name: "d", Inode: reg()}, {Name: "b", Inode: reg()}, {Name: "b.a", Inode: dir(erofs.Dirent{Name: "f", Inode: reg()})}},
			upper: []step{file("a", 0o644, "a"), file("c", 0o644, "c"), file("e", 0o644, "e")},
			want: `0 0644 0:0 a "a"
0 0600 0:0 b "lower"
5 0700 0:0 b.a/
0 0600 0:0 b.a/f "lower"
0 0644 0:0 c "c"
0 0600 0:0 d "lower"
0 0644 0:0 e "e"
`,
		},
		{
			claim: "a directory of both has the entries of both and the attributes of the upper",
			lower: []erofs.Dirent{{Name: "d", Inode: dir(erofs.Dirent{Name: "a", Inode: reg()}, erofs.Dirent{Name: "c", Inode: reg()})}},
			upper: []step{mkdir("d", 0o755), file("d/b", 0o644, "b"), own("d", 5, 6)},
			want: `5 0755 5:6 d/
0 0600 0:0 d/a "lower"
0 0644 0:0 d/b "b"
0 0600 0:0 d/c "lower"
`,
		},
		{
			claim: "of a file of both there is the upper",
			lower: []erofs.Dirent{{Name: "f", Inode: reg()}, {Name: "g", Inode: reg()}},
			upper: []step{file("f", 0o644, "upper"), symlink("g", "f")},
			want:  "0 0644 0:0 f \"upper\"\n2 0777 0:0 g -> f\n",
		},
		{
			claim: "a whiteout hides, and is not seen",
			lower: []erofs.Dirent{{Name: "f", Inode: reg()}, {Name: "d", Inode: dir(erofs.Dirent{Name: "f", Inode: reg()})}, {Name: "g", Inode: reg()}},
			upper: []step{node("f", unix.S_IFCHR, 0, 0), node("d", unix.S_IFCHR, 0, 0), node("none", unix.S_IFCHR, 0, 0)},
			want:  "0 0600 0:0 g \"lower\"\n",
		},
		{
			claim: "an opaque directory hides what is in the lower",
			lower: []erofs.Dirent{{Name: "d", Inode: dir(erofs.Dirent{Name: "f", Inode: reg()})}},
			upper: []step{mkdir("d", 0o755), file("d/g", 0o644, "g"), setxattr("d", "trusted.overlay.opaque", "y")},
			want:  "5 0755 0:0 d/\n0 0644 0:0 d/g \"g\"\n",
		},
		{
			claim: "a file instead of a directory, and the other way round",
			lower: []erofs.Dirent{{Name: "d", Inode: dir(erofs.Dirent{Name: "f", Inode: reg()})}, {Name: "f", Inode: reg()}},
			upper: []step{file("d", 0o644, "d"), mkdir("f", 0o755), file("f/x", 0o644, "x")},
			want:  "0 0644 0:0 d \"d\"\n5 0755 0:0 f/\n0 0644 0:0 f/x \"x\"\n",
		},
		{
			claim: "of a file with two names of which one is hidden, the other has the data",
			lower: func() []erofs.Dirent {
				f, g := reg(), reg()
				return []erofs.Dirent{{Name: "a", Inode: f}, {Name: "b", Inode: f}, {Name: "c", Inode: f}, {Name: "d", Inode: g}, {Name: "e", Inode: g}}
			}(),
			upper: []step{node("a", unix.S_IFCHR, 0, 0), file("d", 0o644, "copied up")},
			want: `0 0600 0:0 b "lower"
1 0600 0:0 c -> b
0 0644 0:0 d "copied up"
0 0600 0:0 e "lower"
`,
		},
		{
			claim: "as a layer, the root is the upper's",
			lower: []erofs.Dirent{{Name: "f", Inode: reg()}, {Name: ".wh.f", Inode: reg()}},
			upper: []step{own(".", 7, 8), file(".wh.g", 0o644, "")},
			o:     Options{Kind: Layer},
			want:  "5 0755 7:8 ./\n0 0600 0:0 f \"lower\"\n",
		},
	} {
		t.Run(tc.claim, func(t *testing.T) {
			upper, err := os.OpenFile(tree(t, tc.upper...), unix.O_PATH|unix.O_DIRECTORY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer upper.Close()
			var b bytes.Buffer
			lower := dir(tc.lower...)
			if err := Overlay(context.Background(), upper, lower, []erofs.Device{{Size: 512, Bytes: bytes.NewReader(device)}}, &b, tc.o); err != nil {
				t.Fatal(err)
			}
			if got := list(t, b.Bytes()); got != tc.want {
				t.Errorf("got\n%swant\n%s", got, tc.want)
			}
		})
	}
}
