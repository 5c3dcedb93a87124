package images

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLayerSaysWhatChanged(t *testing.T) {
	for _, c := range []struct {
		claim  string
		before string // names, a directory's with a slash at its end
		change string // run by sh in the tree
		want   string // the layer's names
	}{
		{"nothing changed", "a d/ d/f", "true", ""},
		{"a new file comes with its directory, whose time it moved", "d/ d/f", "echo x >d/g", "d/ d/g"},
		{"a file that was written again comes whole", "d/ d/f e", "echo x >d/f", "d/f"},
		{"a changed mode is a change", "d/ d/f", "chmod 600 d/f", "d/f"},
		{"a removed file is a whiteout", "d/ d/f d/g", "rm d/f", "d/ d/.wh.f"},
		{"a removed directory is one whiteout", "d/ d/e/ d/e/f d/e/g", "rm -r d/e", "d/ d/.wh.e"},
		{"a directory made anew is opaque", "d/ d/e/ d/e/f d/e/g", "mv d/e old; mkdir d/e; echo x >d/e/f; rm -r old", "./ d/ d/e/ d/e/.wh..wh..opq d/e/f"},
		{"what is below a directory moved into place counts as new", "a/ a/b/ a/b/f z/ z/b/ z/b/f", "mv a old; mv z a; rm -r old", "./ a/ a/.wh..wh..opq a/b/ a/b/f .wh.z"},
		{"a file in a directory's place needs no whiteout", "d/ d/e/ d/e/f", "rm -r d/e; echo x >d/e", "d/ d/e"},
		{"a directory in a file's place needs no mark", "d/ d/e", "rm d/e; mkdir d/e; echo x >d/e/f", "d/ d/e/ d/e/f"},
		{"a name that sorts between a directory and its content stays out of it", "d/ d/f d-x", "rm -r d; echo x >d-x", "./ .wh.d d-x"},
		{"both names of a file come when one is new", "d/ d/f", "ln d/f d/g", "d/ d/f d/g->d/f"},
	} {
		t.Run(c.claim, func(t *testing.T) {
			root := t.TempDir()
			for _, name := range strings.Fields(c.before) {
				path := filepath.Join(root, name)
				if strings.HasSuffix(name, "/") {
					if err := os.Mkdir(path, 0o755); err != nil {
						t.Fatal(err)
					}
				} else if err := os.WriteFile(path, []byte(name), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			before, err := take(root)
			if err != nil {
				t.Fatal(err)
			}
			if err := run(t.Context(), root, "sh", "-euc", c.change); err != nil {
				t.Fatal(err)
			}
			after, err := take(root)
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if err := writeLayer(&b, root, diff(before, after), layerOptions{}); err != nil {
				t.Fatal(err)
			}
			// The root's own time moves with each name in it: not the subject.
			got := strings.TrimPrefix(names(t, &b), "./ ")
			if want := strings.TrimPrefix(c.want, "./ "); got != want {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}

func names(t *testing.T, r io.Reader) string {
	t.Helper()
	var out []string
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return strings.Join(out, " ")
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeLink {
			h.Name += "->" + h.Linkname
		}
		out = append(out, h.Name)
	}
}

func TestKeptOnceAndWhole(t *testing.T) {
	c := &Cache{Dir: t.TempDir()}
	made := 0
	fill := func(tmp string) error {
		made++
		if err := os.Mkdir(tmp, 0o755); err != nil { // fails, if a killed one's leftovers were still there
			return err
		}
		return os.WriteFile(filepath.Join(tmp, "f"), nil, 0o644)
	}
	leftover := filepath.Join(c.Dir, c.key(), ".x.tmp", "half")
	if err := os.MkdirAll(leftover, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := c.keep(t.Context(), "x", func(string) error { return fmt.Errorf("no network") }); err == nil {
		t.Fatal("a failure was kept")
	}
	for range 2 {
		path, err := c.keep(t.Context(), "x", fill)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(path, "f")); err != nil {
			t.Fatal(err)
		}
	}
	if made != 1 {
		t.Errorf("made %d times", made)
	}
	other := &Cache{Dir: c.Dir, Mirror: "http://mirror.example/debian"}
	if other.key() == c.key() {
		t.Error("another mirror has the same key")
	}
	if err := other.Prune(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(c.Dir, c.key())); !os.IsNotExist(err) {
		t.Errorf("after prune: %v", err)
	}
}
