package unpack

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// stack is layers, from the bottom up, and the tree that they make.
type stack struct {
	name   string
	layers []string
	want   string
}

// stacks are the rules of image-spec layer.md, and what the tools of the field
// agree on.
func stacks() []stack {
	long := strings.Repeat("n", 251)
	many := []string{"file x 0; file f0 0"}
	wantMany := []string{"file f0 0"}
	for i := 1; i < 127; i++ {
		many = append(many, fmt.Sprintf("file x %d; file f%d %d", i, i, i))
	}
	for i := 1; i < 127; i++ {
		wantMany = append(wantMany, fmt.Sprintf("file f%d %d", i, i))
	}

	return []stack{
		{"file over a non-empty directory of the layer below", []string{"dir d; file d/x 1", "file d new"}, "file d new"},
		{"directory over a file", []string{"file d 1", "dir d; file d/x 2"}, "dir d; file d/x 2"},
		{"directory over a symlink to a directory", []string{"dir a; file a/x 1; link d a", "dir d; file d/y 2"},
			"dir a; file a/x 1; dir d; file d/y 2"},
		{"symlink over a non-empty directory", []string{"dir d; file d/x 1; dir e", "link d e"}, "link d e; dir e"},
		{"replacing one name of a hard-linked pair leaves the other", []string{"file a 1; hard b a", "file a 2"}, "file a 2; file b 1"},
		{"hard link to a file of the layer below", []string{"file a 1", "hard b a"}, "file a 1; hard b a"},
		{"hard link to a file two layers below, in a directory", []string{"dir d t=5; file d/a 1", "file x 0", "hard d/b d/a"},
			"dir . t=5; dir d t=5; file d/a 1; hard d/b d/a; file x 0"},
		{"hard link to a file below that the layer then replaces", []string{"file a 1", "hard b a; file a 2"}, "file a 2; file b 1"},
		{"hard link to a hard link to a file below", []string{"file a 1", "hard b a; hard c b"}, "file a 1; hard b a; hard c a"},
		{"hard link to the layer's own file, not the one below", []string{"file a 1", "file a 2; hard b a"}, "file a 2; hard b a"},
		{"a later file takes the place of a hard link to a file below", []string{"file a 1", "hard b a; file b 2"}, "file a 1; file b 2"},
		{"a hard link to a file below takes the place of an earlier file", []string{"file a 1", "file b 2; hard b a"}, "file a 1; hard b a"},
		{"hard link to itself", []string{"file a 1; hard a a"}, "file a 1"},
		{"hard link to itself in the layer below", []string{"file a 1", "hard a a"}, "file a 1"},
		{"hard link to a symlink gives a second name of the symlink", []string{"file f 1; link a f; hard b a"}, "link a f; hard b a; file f 1"},
		{"hard link to a symlink of the layer below", []string{"file f 1; link a f", "hard b a"}, "link a f; hard b a; file f 1"},
		{"three names, one inode, across directories", []string{"dir d; dir e; file a 1; hard d/b a; hard e/c d/b"},
			"file a 1; dir d; hard d/b a; dir e; hard e/c a"},
		{"a hard link replaces a directory of its layer", []string{"file a 1; dir b; file b/x 2; hard b a"}, "file a 1; hard b a"},

		{"plain whiteout", []string{"file a 1; file b 2", "file .wh.a"}, "file b 2"},
		{"whiteout of a non-empty directory", []string{"dir d; file d/x 1; file b 2", "file .wh.d"}, "file b 2"},
		{"x added, then .wh.x in the same layer: x stays", []string{"file x 1", "file x 2; file .wh.x"}, "file x 2"},
		{".wh.x, then x in the same layer: x is the new one", []string{"file x 1", "file .wh.x; file x 2"}, "file x 2"},
		{".wh.d then d/n in the same layer: only n remains", []string{"dir d; file d/o 1", "file .wh.d; dir d; file d/n 2"}, "dir d; file d/n 2"},
		{"d/n then .wh.d: lower d/o hidden, d/n stays", []string{"dir d; file d/o 1", "dir d; file d/n 2; file .wh.d"}, "dir d; file d/n 2"},
		{"opaque marker before the new children", []string{"dir d; file d/o 1", "dir d; file d/.wh..wh..opq; file d/n 2"}, "dir d; file d/n 2"},
		{"opaque marker after the new children: they stay", []string{"dir d; file d/o 1", "dir d; file d/n 2; file d/.wh..wh..opq"}, "dir d; file d/n 2"},
		{"image-spec's example a/b/c/{foo,bar}", []string{"dir a; dir a/b; dir a/b/c; file a/b/c/bar 1", "dir a; file a/.wh..wh..opq; dir a/b; dir a/b/c; file a/b/c/foo 2"},
			"dir a; dir a/b; dir a/b/c; file a/b/c/foo 2"},
		{"the same, marker last", []string{"dir a; dir a/b; dir a/b/c; file a/b/c/bar 1", "dir a; dir a/b; dir a/b/c; file a/b/c/foo 2; file a/.wh..wh..opq"},
			"dir a; dir a/b; dir a/b/c; file a/b/c/foo 2"},
		{"opaque marker in a directory that does not exist", []string{"file a 1", "file d/.wh..wh..opq"}, "file a 1"},
		{"opaque marker at the root", []string{"file a 1; dir d; file d/x 2", "file .wh..wh..opq; file b 3"}, "file b 3"},
		{"opaque, and a child added again keeps only the new attributes", []string{"dir d; file d/x 1 mode=0600 own=5:5 x:trusted.a=1", "dir d; file d/.wh..wh..opq; file d/x 2"},
			"dir d; file d/x 2"},
		{"whiteout of nothing", []string{"file a 1", "file .wh.b"}, "file a 1"},
		{"gone in layer 2, back in layer 3", []string{"file a 1", "file .wh.a", "file a 3"}, "file a 3"},
		{"whiteout below a directory that does not exist", []string{"file a 1", "file d/.wh.x"}, "file a 1"},
		{"whiteout entry with data, mode and owner", []string{"file a 1; file b 2", "file .wh.a zzz mode=0777 own=9:9"}, "file b 2"},
		{"a whiteout leaves the directory's time", []string{"dir d t=5; file d/a 1; file d/b 2", "file d/.wh.a t=9"}, "dir . t=5; dir d t=5; file d/b 2"},
		{"'.wh.etc/' as a directory, with a child", []string{"dir etc; file etc/x 1; file a 1", "dir .wh.etc; file .wh.etc/y 2"}, "file a 1"},
		{"'.wh.etc' as a symlink", []string{"dir etc; file etc/x 1; file a 1", "link .wh.etc a"}, "file a 1"},
		{"'etc/.wh.passwd' as a hard link", []string{"dir etc; file etc/passwd 1; file a 1", "hard etc/.wh.passwd a"}, "file a 1; dir etc"},
		{"file below a directory called .wh.a is not made", []string{"file b 1", "file .wh.a/x 2"}, "file b 1"},
		{".wh..wh.aufs, .wh..wh.orph, .wh..wh.plnk are hidden", []string{"file a 1; file .wh..wh.aufs; dir .wh..wh.orph; dir .wh..wh.plnk; file .wh..wh.plnk/1.2 x"}, "file a 1"},
		{"'.wh..wh.x', a whiteout of a name that cannot exist", []string{"file a 1", "file .wh..wh.x"}, "file a 1"},
		{"whiteout of one of two names", []string{"file a 1; hard b a", "file .wh.a"}, "file b 1"},
		{"whiteout of a symlink removes the link, not its target", []string{"dir d; file d/x 1; link l d", "file .wh.l"}, "dir d; file d/x 1"},
		{"whiteout of a 251-byte name", []string{"file " + long + " 1; file a 1", "file .wh." + long}, "file a 1"},
		{"opaque parent and opaque child over three layers", []string{"dir a; dir a/b; file a/b/1 1; file a/1 1", "dir a; dir a/b; file a/b/.wh..wh..opq; file a/b/2 2",
			"dir a; file a/.wh..wh..opq; dir a/b; file a/b/3 3"}, "dir a; dir a/b; file a/b/3 3"},
		{"a directory that took the place of a link below does not empty the link's target",
			[]string{"dir usr; dir usr/bin; file usr/bin/sh 1; link bin usr/bin", "dir bin; file bin/.wh..wh..opq; file bin/.wh.sh; file bin/x 2"},
			"dir bin; file bin/x 2; dir usr; dir usr/bin; file usr/bin/sh 1"},
		{"a whiteout through a link below acts where the link leads",
			[]string{"dir usr; dir usr/bin; file usr/bin/sh 1; file usr/bin/vi 2; link bin usr/bin", "file bin/.wh.sh"},
			"link bin usr/bin; dir usr; dir usr/bin; file usr/bin/vi 2"},

		{"a/b/c/f with no directory entries", []string{"file a/b/c/f 1 t=7"}, "dir . t=7; dir a t=7; dir a/b t=7; dir a/b/c t=7; file a/b/c/f 1 t=7"},
		{"directory entry after its children sets mode and time", []string{"file d/x 1; dir d mode=0700 t=9"}, "dir d mode=0700 t=9; file d/x 1"},
		{"directories 0000 and 0555 still get their children", []string{"dir a mode=0000; file a/x 1; dir b mode=0555; file b/x 1", "file a/y 2; file b/y 2"},
			"dir a mode=0000; file a/x 1; file a/y 2; dir b mode=0555; file b/x 1; file b/y 2"},
		{"a directory's mtime survives later children", []string{"dir d t=5.25; file d/x 1", "file d/y 2 t=9"}, "dir . t=5.25; dir d t=5.25; file d/x 1; file d/y 2 t=9"},
		{"the same file twice: the last one counts", []string{"file x 1; file x 22; file x 333 mode=0600"}, "file x 333 mode=0600"},
		{"x as directory, file, symlink, directory in one layer", []string{"dir x; file x/a 1; file x 2; link x y; dir x mode=0700; file x/b 3"}, "dir x mode=0700; file x/b 3"},
		{"names that differ in case only", []string{"file a 1; file A 2"}, "file A 2; file a 1"},
		{"layer 2 changes a directory's attributes only", []string{"dir d x:trusted.old=1; file d/x 1", "dir d mode=01777 own=3:4 t=8 x:trusted.new=2"},
			"dir d mode=1777 own=3:4 t=8 x:trusted.new=2; file d/x 1"},
		{"empty tars between real ones", []string{"file a 1", "", "file b 2", ""}, "file a 1; file b 2"},
		{"127 layers, each replaces x and adds one", many, strings.Join(append(wantMany, "file x 126"), ";")},
		{"one layer listed twice, with a whiteout layer between", []string{"file a 1; file b 2", "file .wh.a; file .wh.b", "file a 1; file b 2"}, "file a 1; file b 2"},
		{"no layers", nil, "dir . t=0"},

		{"a file below a link of a lower layer belongs where the link leads",
			[]string{"dir usr; dir usr/bin mode=0711 t=3; file usr/bin/sh 1; link bin usr/bin", "file bin/tool 2"},
			"link bin usr/bin; dir usr; dir usr/bin mode=0711 t=3; file usr/bin/sh 1; file usr/bin/tool 2"},
		{"the same through an absolute link and two links", []string{"dir usr; dir usr/bin; link sbin bin; link bin /usr/bin", "file sbin/tool 2"},
			"link bin /usr/bin; link sbin bin; dir usr; dir usr/bin; file usr/bin/tool 2"},
		{"the same with a deeper tree", []string{"dir usr; dir usr/lib; dir usr/lib/x t=4; file usr/lib/x/1 1; link lib usr/lib", "file lib/x/2 2; file lib/y/3 3"},
			"link lib usr/lib; dir usr; dir usr/lib; dir usr/lib/x t=4; file usr/lib/x/1 1; file usr/lib/x/2 2; dir usr/lib/y; file usr/lib/y/3 3"},
		{"a file below a dangling link makes what it leads to", []string{"link opt srv/opt", "file opt/x 1"}, "link opt srv/opt; dir srv; dir srv/opt; file srv/opt/x 1"},
		{"a link that leads out ends at the root", []string{"link l ../../../srv", "file l/x 1"}, "link l ../../../srv; dir srv; file srv/x 1"},
		{"a file below a link of its own layer", []string{"dir usr; dir usr/bin; link bin usr/bin; file bin/tool 1"}, "link bin usr/bin; dir usr; dir usr/bin; file usr/bin/tool 1"},
		{"a file below a link of its own layer to a directory of a lower one",
			[]string{"dir d mode=0700; file d/x 1", "link l d; file l/y 2"}, "dir d mode=0700; file d/x 1; file d/y 2; link l d"},
		{"a file below a file replaces it", []string{"file a 1", "file a/b 2"}, "dir a; file a/b 2"},
		{"a directory that replaces a file of its layer does not bring the lower one back", []string{"dir d; file d/x 1", "file d 2; dir d; file d/y 3"}, "dir d; file d/y 3"},
		{"a directory that replaces a hard link of its layer does not either", []string{"dir d; file d/x 1; file f 2", "hard d f; dir d; file d/y 3"}, "dir d; file d/y 3; file f 2"},
		{"of two hard links of one name to lower files the last counts", []string{"file a 1; file b 2", "hard c a; hard c b"}, "file a 1; file b 2; hard c b"},
		{"a link that is replaced through itself", []string{"link a/a /a; link a/a/a x; file a/a/f 1"}, "dir a; link a/a x; dir a/x; file a/x/f 1"},
		{"a link whited out is not followed for what its layer had below", []string{"dir c; file c/a 1; link b c", "file b/a 2; dir b/a; file .wh.b"}, "dir b; dir b/a; dir c; file c/a 1"},
		{"a hard link whose target is reached through a link of its layer", []string{"dir d; file d/x 1", "link l d; hard h l/x"}, "dir d; file d/x 1; hard h d/x; link l d"},
		{"a hard link whose target is reached through a link below", []string{"dir d; file d/x 1; link l d", "hard h l/x"}, "dir d; file d/x 1; hard h d/x; link l d"},
		{"hard links within a set-gid directory keep owners", []string{"dir d mode=02775 own=0:50; file d/a 1; file d/b 1 own=7:7; dir d/e"},
			"dir d mode=2775 own=0:50; file d/a 1; file d/b 1 own=7:7; dir d/e"},
	}
}

func TestLayersApplyAsTheSpecificationSays(t *testing.T) {
	needRoot(t)
	for _, c := range stacks() {
		t.Run(c.name, func(t *testing.T) {
			got, err := unpackText(t, c.layers...)
			if err != nil {
				t.Fatal(err)
			}
			if want := lines(c.want); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// refusal is layers of which the last is refused, for the sake of entry.
type refusal struct {
	name   string
	layers []string
	want   error
	entry  string
}

func refusals() []refusal {
	return []refusal{
		{"hard link to nothing", []string{"file a 1", "hard b nothing"}, ErrNoTarget, "b"},
		{"hard link to nothing in the first layer", []string{"hard b nothing"}, ErrNoTarget, "b"},
		{"hard link comes before its target", []string{"hard b a; file a 1"}, ErrNoTarget, "b"},
		{"hard link to itself and nothing else", []string{"hard a a"}, ErrNoTarget, "a"},
		{"hard link to a directory", []string{"dir d; hard b d"}, ErrLinkToDirectory, "b"},
		{"hard link to a directory of the layer below", []string{"dir d", "hard b d"}, ErrLinkToDirectory, "b"},
		{"hard link to the root", []string{"hard b ."}, ErrLinkToDirectory, "b"},
		{"hard link to a .wh..wh.plnk entry", []string{"file .wh..wh.plnk/1.2 x; hard b .wh..wh.plnk/1.2"}, ErrNoTarget, "b"},
		{"hard link to what it replaces", []string{"dir d; file d/x 1; hard d d/x"}, ErrNoTarget, "d"},
		{"hard link to nothing, though its name is used again", []string{"hard a b; file a 1"}, ErrNoTarget, "a"},
		{"bare .wh.", []string{"file d/.wh."}, ErrWhiteout, "d/.wh."},
		{"whiteout of ..", []string{"file d/.wh..."}, ErrWhiteout, "d/.wh..."},
		{"whiteout of .", []string{"file d/.wh.."}, ErrWhiteout, "d/.wh.."},
		{"the root as a link", []string{"link . /tmp"}, ErrRoot, "."},
		{"the root as a file", []string{"file /d/.. x"}, ErrRoot, "/d/.."},
	}
}

func TestLayersThatMeanNothingAreRefused(t *testing.T) {
	for _, c := range refusals() {
		t.Run(c.name, func(t *testing.T) {
			_, err := unpackText(t, c.layers...)
			var e *EntryError
			if !errors.Is(err, c.want) || !errors.As(err, &e) || e.Name != c.entry {
				t.Errorf("got %v, want %v for entry %q", err, c.want, c.entry)
			}
			var l *LayerError
			if !errors.As(err, &l) || l.Index != len(c.layers)-1 {
				t.Errorf("%v does not name layer %d", err, len(c.layers)-1)
			}
		})
	}
}
