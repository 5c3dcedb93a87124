package e2e

import (
	"archive/tar"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/e2e/layout"
	"peel/e2e/tars"
	"peel/e2e/tree"
)

// Images that try to leave their directory unpack within it or not at all, and
// what lies outside stays as it is.
func TestHostileImagesStayInside(t *testing.T) {
	need(t, "docker-registry")
	r, err := shared.registry()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		claim  string
		layers func(victim string) [][]tars.Entry
	}{
		{"names with dots", func(string) [][]tars.Entry {
			return [][]tars.Entry{{tars.File("../victim/new", "x"), tars.File("a/../../../victim/new", "x")}}
		}},
		{"absolute names", func(victim string) [][]tars.Entry {
			return [][]tars.Entry{{tars.File(victim+"/new", "x")}}
		}},
		{"through a link of the same layer", func(victim string) [][]tars.Entry {
			return [][]tars.Entry{{tars.Symlink("out", victim), tars.File("out/new", "x")}}
		}},
		{"through a link of the layer below", func(victim string) [][]tars.Entry {
			return [][]tars.Entry{{tars.Symlink("out", victim), tars.Symlink("up", "../../victim")}, {tars.File("out/new", "x"), tars.File("up/new", "x")}}
		}},
		{"the root is a link", func(victim string) [][]tars.Entry {
			return [][]tars.Entry{{tars.Symlink(".", victim), tars.Symlink("/", victim)}, {tars.File("new", "x")}}
		}},
		{"a hard link to a file outside", func(victim string) [][]tars.Entry {
			return [][]tars.Entry{{tars.Hardlink("h", "../../victim/secret"), tars.Hardlink("i", victim+"/secret")}, {tars.File("h", "changed")}}
		}},
		{"a hard link through a link", func(victim string) [][]tars.Entry {
			return [][]tars.Entry{{tars.Symlink("out", victim), tars.Hardlink("h", "out/secret"), tars.File("h", "changed")}}
		}},
		{"attributes of what a link leads to", func(victim string) [][]tars.Entry {
			return [][]tars.Entry{{tars.Symlink("out", victim)}, {tars.Dir("out").Mode(0o777).Owner(5, 5)}, {tars.Symlink("f", victim+"/secret"), tars.Hardlink("g", "f").Mode(0o666)}}
		}},
		{"whiteouts through a link", func(victim string) [][]tars.Entry {
			return [][]tars.Entry{{tars.Symlink("out", victim)}, {tars.Empty("out/.wh.secret"), tars.Empty("out/.wh..wh..opq")}}
		}},
		{"whiteouts of dots", func(string) [][]tars.Entry {
			return [][]tars.Entry{{tars.Empty(".wh..."), tars.Empty(".wh..")}, {tars.Empty("../victim/.wh.secret")}}
		}},
		{"a device in the place of a directory", func(string) [][]tars.Entry {
			return [][]tars.Entry{{{Header: tar.Header{Name: "d", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}}}, {tars.File("d/new", "x")}}
		}},
	} {
		t.Run(c.claim, func(t *testing.T) {
			dir := t.TempDir()
			victim, work := filepath.Join(dir, "victim"), filepath.Join(dir, "work")
			for _, err := range []error{
				os.Mkdir(victim, 0o755), os.Mkdir(work, 0o755),
				os.WriteFile(filepath.Join(victim, "secret"), []byte("untouched\n"), 0o640),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			l, err := layout.Create(filepath.Join(dir, "layout"))
			if err != nil {
				t.Fatal(err)
			}
			desc, err := tars.Image(l, runtime.GOARCH, ocispec.ImageConfig{}, c.layers(victim)...)
			if err != nil {
				t.Fatal(err)
			}
			if err := l.SetRoot(desc); err != nil {
				t.Fatal(err)
			}
			repo := "hostile/" + strings.ReplaceAll(c.claim, " ", "-")
			if _, err := r.Push(t.Context(), l, repo, "latest"); err != nil {
				t.Fatal(err)
			}

			before := list(t, victim)
			result := peel(t, dir).run(t, "unpack", "-q", "--rootfs", r.Addr+"/"+repo+":latest", filepath.Join(work, "rootfs"))
			t.Logf("exit code %d %s", result.code, result.stderr)
			for _, d := range tree.Compare(before, list(t, victim)) {
				t.Errorf("outside of the rootfs: %s", d)
			}
			if result.code == 0 {
				noSecret(t, filepath.Join(work, "rootfs"))
				onlyThese(t, work, "rootfs")
				return
			}
			if result.code != 125 {
				t.Errorf("exit code %d", result.code)
			}
			onlyThese(t, work)
		})
	}
}

// noSecret fails if a file of the tree is the victim's or a copy of it.
func noSecret(t *testing.T, rootfs string) {
	t.Helper()
	for path, e := range list(t, rootfs) {
		if e.Type != "file" {
			continue
		}
		if b, err := os.ReadFile(filepath.Join(rootfs, path)); err != nil || strings.Contains(string(b), "untouched") {
			t.Errorf("%s holds %q (%v)", path, b, err)
		}
	}
}
