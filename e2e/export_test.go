package e2e

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/e2e/layout"
)

// What peel exports becomes the same tree again, whoever reads it.
func TestExportedTreeComesBack(t *testing.T) {
	for _, name := range []string{"odd", "nginx"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			rootfs := peelRootfs(t, published(t, name), dir)
			archive := filepath.Join(dir, "export.tar")
			peel(t, dir).ok(t, "export", "--rootfs", rootfs, "-o", archive)
			want := list(t, rootfs)
			f := facts{factsOfTar(t, archive)}
			for _, back := range []struct {
				by    string
				needs string
				tree  func(t *testing.T, archive, dir string) string
			}{
				{"GNU tar", "tar", untar},
				{"peel", "docker-registry", unpackLayer},
				{"podman", "podman", podmanImport},
			} {
				t.Run(back.by, func(t *testing.T) {
					need(t, back.needs)
					got := list(t, back.tree(t, archive, t.TempDir()))
					// The root has no entry in the archive, as in docker's.
					delete(want, ".")
					delete(got, ".")
					compareExplained(t, back.by, f, want, got)
				})
			}
		})
	}
}

func untar(t *testing.T, archive, dir string) string {
	output(t, "tar", "-x", "-p", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C", dir, "-f", archive)
	return dir
}

// unpackLayer unpacks an image whose one layer is the archive.
func unpackLayer(t *testing.T, archive, dir string) string {
	l, err := layout.Create(filepath.Join(dir, "layout"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	layer, err := l.Add(ocispec.MediaTypeImageLayer, func(w io.Writer) error {
		_, err := io.Copy(w, f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	config := ocispec.Image{RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{layer.Digest}}}
	config.OS, config.Architecture, _ = strings.Cut(host(), "/")
	image, err := l.AddImage(config, []ocispec.Descriptor{layer})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.SetRoot(image); err != nil {
		t.Fatal(err)
	}
	r, err := shared.registry()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Push(t.Context(), l, "exported", "latest"); err != nil {
		t.Fatal(err)
	}
	return peelRootfs(t, r.Addr+"/exported:latest", dir)
}

func podmanImport(t *testing.T, archive, dir string) string {
	podman := podmanIn(t, dir)
	podman("import", "-q", archive, "exported")
	return strings.TrimSpace(podman("image", "mount", "exported"))
}
