package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

func open(t *testing.T, root string) *Store {
	t.Helper()
	s, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func describe(b []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(b), Size: int64(len(b))}
}

func ingest(t *testing.T, s *Store, d ocispec.Descriptor) *Ingest {
	t.Helper()
	in, err := s.Ingest(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	return in
}

func write(t *testing.T, in *Ingest, b []byte) {
	t.Helper()
	if _, err := in.Write(b); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, s interface {
	Blob(context.Context, ocispec.Descriptor) (io.ReadCloser, error)
}, d ocispec.Descriptor) ([]byte, error) {
	t.Helper()
	r, err := s.Blob(t.Context(), d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// files lists all regular files below root, without the locks.
func files(t *testing.T, root string) string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && e.Name() != "lock" && e.Name() != "users" {
			names = append(names, strings.TrimPrefix(p, root+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}

var blob = []byte("a layer, as far as the store is concerned")

func TestShortBlobCountsAsMissing(t *testing.T) {
	s, d := open(t, t.TempDir()), describe(blob)
	if err := s.WriteBlob(t.Context(), d, blob); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(s.blobPath(d.Digest), 3); err != nil { // a power cut
		t.Fatal(err)
	}
	if s.Has(d) {
		t.Fatal("a truncated blob counts as present")
	}
	if err := s.WriteBlob(t.Context(), d, blob); err != nil {
		t.Fatalf("repair: %v", err)
	}
	if got, err := s.ReadBlob(d); err != nil || string(got) != string(blob) {
		t.Fatalf("after repair: %q, %v", got, err)
	}
}

// testImage stores an image of one layer and returns it.
func testImage(t *testing.T, s *Store, layer string) *Image {
	t.Helper()
	put := func(mt string, b []byte) ocispec.Descriptor {
		d := describe(b)
		d.MediaType = mt
		if err := s.WriteBlob(t.Context(), d, b); err != nil {
			t.Fatal(err)
		}
		return d
	}
	l := put(ocispec.MediaTypeImageLayer, []byte(layer))
	config, _ := json.Marshal(ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{l.Digest}},
	})
	manifest, _ := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: put(ocispec.MediaTypeImageConfig, config), Layers: []ocispec.Descriptor{l},
	})
	img, err := NewImage(put(ocispec.MediaTypeImageManifest, manifest), manifest, config)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestTagNamesAnImageAndMovesIt(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	a, b := testImage(t, s, "one"), testImage(t, s, "two")
	b.Source = digest.FromString("the index it came from")
	for name, img := range map[string]*Image{"example.org/x:1": a, "example.org/x:2": b} {
		if err := s.Tag(t.Context(), name, img); err != nil {
			t.Fatal(err)
		}
	}
	got, err := open(t, root).Resolve("example.org/x:2")
	if err != nil || got.Descriptor.Digest != b.Descriptor.Digest || got.Source != b.Source || got.Name != "example.org/x:2" {
		t.Fatalf("%+v, %v", got, err)
	}
	if err := s.Tag(t.Context(), "example.org/x:2", a); err != nil {
		t.Fatal(err)
	}
	imgs, err := s.Images()
	if err != nil || len(imgs) != 2 || imgs[0].Name != "example.org/x:1" || imgs[1].Descriptor.Digest != a.Descriptor.Digest {
		t.Fatalf("%+v, %v", imgs, err)
	}
	if _, err := s.Resolve("example.org/x:3"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("unknown name: %v", err)
	}
}

func TestDigestsFindImagesUnderOtherNames(t *testing.T) {
	s := open(t, t.TempDir())
	img := testImage(t, s, "one")
	img.Source = digest.FromString("the index it came from")
	if err := s.Tag(t.Context(), "example.org:5000/x:1", img); err != nil {
		t.Fatal(err)
	}
	for name, found := range map[string]bool{
		"example.org:5000/x@" + img.Descriptor.Digest.String():   true,
		"example.org:5000/x@" + img.Source.String():              true,
		"example.org:5000/x@" + digest.FromString("no").String(): false,
		"example.org:5000/x/y@" + img.Source.String():            false,
		"example.org@" + img.Source.String():                     false, // which is not "example.org", tag "5000/x:1"
		"example.org:5000/x:1@":                                  false,
	} {
		got, err := s.Resolve(name)
		if found && (err != nil || got.Descriptor.Digest != img.Descriptor.Digest) || !found && !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestManyTagAtOnce(t *testing.T) {
	root := t.TempDir()
	img := testImage(t, open(t, root), "one")
	var wg sync.WaitGroup
	for i := range 8 {
		s := open(t, root)
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := s.Tag(t.Context(), "example.org/x:"+string(rune('a'+i)), img); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	if imgs, err := open(t, root).Images(); err != nil || len(imgs) != 8 {
		t.Fatalf("%d images, %v", len(imgs), err)
	}
}

func TestABrokenImageDoesNotHideTheOthers(t *testing.T) {
	s := open(t, t.TempDir())
	good, broken := testImage(t, s, "one"), testImage(t, s, "two")
	for name, img := range map[string]*Image{"good:1": good, "broken:1": broken} {
		if err := s.Tag(t.Context(), name, img); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(s.blobPath(broken.Descriptor.Digest)); err != nil {
		t.Fatal(err)
	}
	imgs, err := s.Images()
	if len(imgs) != 1 || imgs[0].Name != "good:1" || !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "broken:1") {
		t.Fatalf("%d images, error %v", len(imgs), err)
	}
}

func TestDamagedSmallBlobIsNotReadButWrittenAnew(t *testing.T) {
	s, d := open(t, t.TempDir()), describe(blob)
	if err := s.WriteBlob(t.Context(), d, blob); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.blobPath(d.Digest), bytes.ToUpper(blob), 0o600); err != nil {
		t.Fatal(err)
	}
	var damaged *DamagedError
	if b, err := s.ReadBlob(d); !errors.As(err, &damaged) || damaged.Digest != d.Digest || b != nil {
		t.Fatalf("read %q, %v, want a DamagedError", b, err)
	}
	if err := s.WriteBlob(t.Context(), d, blob); err != nil {
		t.Fatal(err)
	}
	if b, err := s.ReadBlob(d); err != nil || !bytes.Equal(b, blob) {
		t.Fatalf("written anew, read %q, %v", b, err)
	}
	d.Size = maxSmallBlob + 1
	if _, err := s.ReadBlob(d); err == nil || errors.As(err, &damaged) {
		t.Fatalf("a blob too large to be read whole: %v", err)
	}
}

func TestDropDamagedRemovesWhatNoLongerMatches(t *testing.T) {
	s := open(t, t.TempDir())
	img := testImage(t, s, "a layer")
	l := img.Manifest.Layers[0]
	if dropped, err := s.DropDamaged(t.Context(), img); len(dropped) != 0 || err != nil {
		t.Fatalf("dropped %v from a sound store, %v", dropped, err)
	}
	if err := os.WriteFile(s.blobPath(l.Digest), []byte("A layer"), 0o600); err != nil {
		t.Fatal(err)
	}
	dropped, err := s.DropDamaged(t.Context(), img)
	if err != nil || len(dropped) != 1 || dropped[0] != l.Digest || s.Has(l) {
		t.Fatalf("dropped %v, %v", dropped, err)
	}
}

func TestNobodyElseGetsIn(t *testing.T) {
	old := unix.Umask(0) // the most careless of users
	defer unix.Umask(old)
	root := filepath.Join(t.TempDir(), "store")
	s := open(t, root)
	testImage(t, s, "one")
	in := ingest(t, s, describe(blob))
	write(t, in, blob[:3])
	err := filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := e.Info()
		if err == nil && fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is %v", p, fi.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestReadOnlyStoreCanBeRead(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs to mount: not root")
	}
	root := t.TempDir()
	s := open(t, root)
	if err := s.Tag(t.Context(), "x:1", testImage(t, s, "x")); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := unix.Mount(root, root, "", unix.MS_BIND, ""); err != nil {
		t.Skip("needs to mount:", err)
	}
	defer unix.Unmount(root, unix.MNT_DETACH)
	if err := unix.Mount("", root, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		t.Skip("needs to mount:", err)
	}
	s, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Resolve("x:1"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Ingest(t.Context(), describe(blob)); !errors.Is(err, unix.EROFS) {
		t.Fatalf("Ingest: %v, want EROFS", err)
	}
}

func TestIndexThatIsLostOrSpoiled(t *testing.T) {
	root := t.TempDir()
	open(t, root).Close()
	index := filepath.Join(root, "images", "index.json")
	if err := os.Remove(index); err != nil {
		t.Fatal(err)
	}
	s := open(t, root)
	if imgs, err := s.Images(); err != nil || len(imgs) != 0 {
		t.Fatalf("lost index: %v, %v", imgs, err)
	}
	if err := os.WriteFile(index, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	var spoiled *IndexError
	if _, err := s.Images(); !errors.As(err, &spoiled) || spoiled.Path != index {
		t.Fatalf("spoiled index: %v, want an IndexError", err)
	}
}
