package layout

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// publish publishes a "manifest" with that text.
func publish(t *testing.T, target, text, tag string) error {
	t.Helper()
	s, err := New(target)
	if err != nil {
		return err
	}
	d, err := s.AddBytes(ocispec.MediaTypeImageManifest, []byte(text))
	if err == nil {
		err = s.Publish(t.Context(), d, tag)
	}
	return errors.Join(err, s.Close())
}

// describe lists the files of a directory, a tag or a blob a line.
func describe(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	index, err := readIndex(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range index.Manifests {
		b, err := os.ReadFile(filepath.Join(blobsIn(dir), m.Digest.Encoded()))
		if err != nil || digest.FromBytes(b) != m.Digest {
			t.Errorf("blob %s: %q, %v", m.Digest, b, err)
		}
		fmt.Fprintf(&out, "%s=%s\n", m.Annotations[ocispec.AnnotationRefName], b)
	}
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if rel, _ := filepath.Rel(dir, path); err == nil && !e.IsDir() && !strings.HasPrefix(rel, "blobs/sha256/") {
			fmt.Fprintln(&out, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestPublish(t *testing.T) {
	const files = "index.json\noci-layout\n"
	for _, tc := range []struct {
		claim  string
		before func(dir string) error
		images [][2]string // text and tag, in their order
		want   string
	}{
		{"a layout appears", nil, [][2]string{{"A", "latest"}}, "latest=A\n" + files},
		{"a second image is added", nil, [][2]string{{"A", "1"}, {"B", "2"}}, "1=A\n2=B\n" + files},
		{"a tag goes to the new image", nil, [][2]string{{"A", "1"}, {"B", "2"}, {"C", "1"}}, "2=B\n1=C\n" + files},
		{"one image may have two tags", nil, [][2]string{{"A", "1"}, {"A", "x/y:2"}}, "1=A\nx/y:2=A\n" + files},
		{"an empty directory becomes one", func(dir string) error { return os.Mkdir(dir, 0o755) }, [][2]string{{"A", "1"}}, "1=A\n" + files},
		{"an image without a name gets one", func(dir string) error {
			return errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(dir+"/oci-layout", marker(), 0o644),
				os.WriteFile(dir+"/index.json", fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[{"digest":"%s","size":1}]}`, digest.FromString("A")), 0o644))
		}, [][2]string{{"A", "1"}}, "1=A\n" + files},
		{"what a killed one has left goes", func(dir string) error {
			return errors.Join(os.Mkdir(dir, 0o755), os.Mkdir(dir+"/.peel-abcdefghij", 0o700), os.WriteFile(dir+"/.peel-abcdefghij/blob-1", nil, 0o644))
		}, [][2]string{{"A", "1"}}, "1=A\n" + files},
	} {
		t.Run(tc.claim, func(t *testing.T) {
			parent := t.TempDir()
			dir := filepath.Join(parent, "layout")
			if tc.before != nil {
				if err := tc.before(dir); err != nil {
					t.Fatal(err)
				}
			}
			for _, i := range tc.images {
				if err := publish(t, dir, i[0], i[1]); err != nil {
					t.Fatal(err)
				}
			}
			if got := describe(t, dir); got != tc.want {
				t.Errorf("got\n%swant\n%s", got, tc.want)
			}
			if list, _ := os.ReadDir(parent); len(list) != 1 {
				t.Errorf("left behind: %v", list)
			}
		})
	}
}

func TestOtherDirectoriesAreRefused(t *testing.T) {
	for claim, make := range map[string]func(dir string) error{
		"with files": func(dir string) error { return os.WriteFile(dir+"/f", nil, 0o644) },
		"of another version": func(dir string) error {
			return os.WriteFile(dir+"/oci-layout", []byte(`{"imageLayoutVersion":"2"}`), 0o644)
		},
		"with a broken mark": func(dir string) error { return os.WriteFile(dir+"/oci-layout", nil, 0o644) },
	} {
		dir := t.TempDir()
		if err := make(dir); err != nil {
			t.Fatal(err)
		}
		if err := publish(t, dir, "A", "1"); !errors.Is(err, ErrNotLayout) {
			t.Errorf("a directory %s: %v", claim, err)
		}
		if list, _ := os.ReadDir(dir); len(list) != 1 {
			t.Errorf("a directory %s has %v now", claim, list)
		}
	}
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := publish(t, file, "A", "1"); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("a file: %v", err)
	}
	if err := publish(t, file+"-none/layout", "A", "1"); !errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), stagingPrefix) {
		t.Errorf("nowhere: %v", err)
	}
}

func TestBrokenIndexIsLeftAsItIs(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.WriteFile(dir+"/oci-layout", marker(), 0o644), os.WriteFile(dir+"/index.json", []byte("{"), 0o644)); err != nil {
		t.Fatal(err)
	}
	var syntax *json.SyntaxError
	if err := publish(t, dir, "A", "1"); !errors.As(err, &syntax) {
		t.Errorf("got %v", err)
	}
	if b, _ := os.ReadFile(dir + "/index.json"); string(b) != "{" {
		t.Errorf("it is %q now", b)
	}
}

// All who publish at once, some of whom find no layout yet, have their image in it.
func TestConcurrentPublishersLoseNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "layout")
	const n = 12
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			if err := publish(t, dir, fmt.Sprint(i), fmt.Sprintf("t%d", i)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	got := describe(t, dir)
	for i := range n {
		if want := fmt.Sprintf("t%d=%d\n", i, i); !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestCopyChecks(t *testing.T) {
	s, err := New(filepath.Join(t.TempDir(), "layout"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	d := ocispec.Descriptor{MediaType: "x", Digest: digest.FromString("data"), Size: 4}
	for _, wrong := range []string{"", "dat", "dat4", "data and more"} {
		if err := s.Copy(d, strings.NewReader(wrong)); !errors.Is(err, ErrDigest) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	if list, _ := os.ReadDir(blobsIn(s.tree())); len(list) > 0 {
		t.Errorf("staged: %v", list)
	}
	if err := s.Copy(d, strings.NewReader("data")); err != nil {
		t.Error(err)
	}
}

func TestArchiveIsALayout(t *testing.T) {
	var archives [2]bytes.Buffer
	for i := range archives {
		s, err := NewArchive(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		d, err := s.AddBytes("x", []byte("manifest"))
		if err == nil {
			err = s.Archive(&archives[i], d, "1")
		}
		if err := errors.Join(err, s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(archives[0].Bytes(), archives[1].Bytes()) {
		t.Error("the same image gives other bytes")
	}
	var names []string
	for r := tar.NewReader(&archives[0]); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	want := "oci-layout index.json blobs/ blobs/sha256/ blobs/sha256/" + digest.FromString("manifest").Encoded()
	if got := strings.Join(names, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestModesAreTheSameWithEveryUmask(t *testing.T) {
	defer unix.Umask(unix.Umask(0o077))
	dir := filepath.Join(t.TempDir(), "layout")
	if err := publish(t, dir, "A", "1"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{
		"": 0o700, "blobs": 0o755, "blobs/sha256": 0o755, "index.json": 0o644, "oci-layout": 0o644,
		"blobs/sha256/" + digest.FromString("A").Encoded(): 0o644,
	} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%q: %v, %v; want %v", name, info.Mode(), err, want)
		}
	}
}

func TestTags(t *testing.T) {
	for tag, valid := range map[string]bool{
		"latest": true, "docker.io/library/nginx:1.2": true, "a--b": true, "v1.0+x": true, "a@b": true,
		"": false, "-a": false, "a/": false, "a b": false, "a\nb": false, "a..b": false,
	} {
		if ValidTag(tag) != valid {
			t.Errorf("%q: %v", tag, !valid)
		}
	}
}
