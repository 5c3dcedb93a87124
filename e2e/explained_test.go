package e2e

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path"
	"strings"
	"testing"

	"peel/e2e/layout"
	"peel/e2e/tree"
)

// explanation says why a peer's rootfs may differ from peel's in one way, and
// tells that way from all others.
type explanation struct {
	peer string
	why  string
	is   func(f facts, d tree.Difference) bool
}

var explanations = []explanation{
	{
		peer: "podman",
		why:  "containers/storage makes the root of every layer by itself, with mode 0555, and overlayfs shows the topmost layer's",
		is: func(_ facts, d tree.Difference) bool {
			return d.Path == "." && (d.Field == "mtime" || d.Field == "mode" && d.Got == "0555")
		},
	}, {
		peer: "podman",
		why:  "a layer that has something below a directory and does not name the directory makes podman create it anew in the overlay, at the time of the pull",
		is: func(f facts, d tree.Difference) bool {
			_, named := f.topmostTouching(d.Path).names[d.Path]
			return d.Field == "mtime" && !named
		},
	}, {
		peer: "podman",
		why:  "containers/storage takes times before 1970 for 1970",
		is: func(_ facts, d tree.Difference) bool {
			return d.Field == "mtime" && strings.HasPrefix(d.Want, "-") && d.Got == "0.000000000"
		},
	}, {
		peer: "podman",
		why:  "podman gives a directory its default access control list before it makes what is in it, which inherits that",
		is: func(_ facts, d tree.Difference) bool {
			return d == tree.Difference{Path: "dir/deep/file", Field: "xattrs", Want: "map[]", Got: d.Got} && strings.HasPrefix(d.Got, `map["system.posix_acl_access"`)
		},
	}, {
		peer: "podman",
		why:  noEmptyAttributes,
		is:   hasNoEmptyAttribute,
	}, {
		peer: "peel",
		why:  noEmptyAttributes,
		is:   hasNoEmptyAttribute,
	}, {
		peer: "bsdtar",
		why:  "libarchive takes the fraction of a time before 1970 for one that counts forward",
		is: func(_ facts, d tree.Difference) bool {
			return d == tree.Difference{Path: "forms/before-1970", Field: "mtime", Want: "-2.500000000", Got: "-1.500000000"}
		},
	}, {
		peer: "crane",
		why:  "crane writes the topmost layer first; tar gives a directory its time when it has read on past it, and files of lower layers that come into it later move the time",
		is: func(f facts, d tree.Difference) bool {
			return d.Field == "mtime" && f.isDir(d.Path) && f.below(d.Path) > 1
		},
	}, {
		peer: "crane",
		why:  "crane lets a whiteout hide what follows it in its own layer, against image-spec layer.md",
		is: func(_ facts, d tree.Difference) bool {
			return d == tree.Difference{Path: "same-layer/before", Field: "missing", Want: "file", Got: "nothing"}
		},
	}, {
		peer: "umoci",
		why:  "creating the missing parent of forms/late/child, umoci moves the time of forms and keeps it moved",
		is:   func(_ facts, d tree.Difference) bool { return d.Path == "forms" && d.Field == "mtime" },
	},
}

const noEmptyAttributes = "a record without a value takes away what was there before (POSIX.1 pax), so that of an empty attribute is none"

func hasNoEmptyAttribute(_ facts, d tree.Difference) bool {
	return d == tree.Difference{Path: "empty", Field: "xattrs", Want: `map["user.empty":""]`, Got: "map[]"}
}

// explain returns why the peer may differ so, or "".
func explain(peer string, f facts, d tree.Difference) string {
	for _, e := range explanations {
		if e.peer == peer && e.is(f, d) {
			return e.why
		}
	}
	return ""
}

// facts is what the layers of an image say, lowest first.
type facts []layerFacts

type layerFacts struct {
	names map[string]byte // clean path of each entry -> 'd' for a directory, else '-'
}

// topmostTouching is the last layer with an entry at or below a path.
func (f facts) topmostTouching(p string) layerFacts {
	for i := len(f) - 1; i >= 0; i-- {
		if f[i].touches(p) {
			return f[i]
		}
	}
	return layerFacts{}
}

// isDir tells whether a path that all layers together have is a directory.
func (f facts) isDir(p string) bool {
	top := f.topmostTouching(p)
	kind, named := top.names[p]
	return kind == 'd' || !named // something is below it
}

// below counts the layers that have an entry at or below a path.
func (f facts) below(p string) int {
	n := 0
	for _, l := range f {
		if l.touches(p) {
			n++
		}
	}
	return n
}

func (l layerFacts) touches(p string) bool {
	for name := range l.names {
		if name == p || strings.HasPrefix(name, p+"/") {
			return true
		}
	}
	return false
}

// factsOf reads the layers of a layout of plain tars.
func factsOf(t *testing.T, l *layout.Dir) facts {
	t.Helper()
	m, err := l.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	var out facts
	for _, desc := range m.Layers {
		out = append(out, factsOfTar(t, l.BlobPath(desc.Digest)))
	}
	return out
}

func factsOfTar(t *testing.T, archive string) layerFacts {
	t.Helper()
	lf := layerFacts{names: map[string]byte{}}
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return lf
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		if name == "" {
			name = "."
		}
		lf.names[name] = '-'
		if h.Typeflag == tar.TypeDir {
			lf.names[name] = 'd'
		}
	}
}

func TestExplanationsCoverNothingElse(t *testing.T) {
	f := facts{
		{map[string]byte{".": 'd', "d": 'd', "d/f": '-', "e": 'd', "e/f": '-', "g": '-'}},
		{map[string]byte{"d/g": '-', "e": 'd', "e/f": '-', "g": '-'}},
	}
	for _, c := range []struct {
		claim     string
		peer      string
		d         tree.Difference
		explained bool
	}{
		{"podman: the time of a directory that the upper layer does not name", "podman", tree.Difference{Path: "d", Field: "mtime"}, true},
		{"podman: the time of one that it names", "podman", tree.Difference{Path: "e", Field: "mtime"}, false},
		{"podman: the time of a file", "podman", tree.Difference{Path: "d/f", Field: "mtime"}, false},
		{"podman: the mode of a directory", "podman", tree.Difference{Path: "d", Field: "mode", Got: "0555"}, false},
		{"podman: the root's mode", "podman", tree.Difference{Path: ".", Field: "mode", Got: "0555"}, true},
		{"podman: another mode of the root", "podman", tree.Difference{Path: ".", Field: "mode", Got: "0777"}, false},
		{"crane: the time of a directory in several layers", "crane", tree.Difference{Path: "e", Field: "mtime"}, true},
		{"crane: the time of a file in several layers", "crane", tree.Difference{Path: "g", Field: "mtime"}, false},
		{"crane: the content of a file", "crane", tree.Difference{Path: "g", Field: "content"}, false},
		{"umoci: the time of any directory", "umoci", tree.Difference{Path: "d", Field: "mtime"}, false},
		{"a stranger", "peel", tree.Difference{Path: ".", Field: "mtime"}, false},
	} {
		if why := explain(c.peer, f, c.d); (why != "") != c.explained {
			t.Errorf("%s: explained by %q", c.claim, why)
		}
	}
}
