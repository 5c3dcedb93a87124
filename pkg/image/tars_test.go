package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"peel/e2e/tree"
	"peel/pkg/layers"
	"peel/pkg/store"
	"peel/pkg/unpack"
)

func openTars(t testing.TB, c *Cache) *Tars {
	t.Helper()
	tars, err := c.Tars()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tars.Close() })
	return tars
}

func unpackFrom(t testing.TB, tars *Tars, src *blobs, img *store.Image) (tree.Tree, error) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "rootfs")
	if _, err := unpack.Image(t.Context(), tars.Over(src), img, dir, unpack.Options{Form: unpack.Rootfs}); err != nil {
		return nil, err
	}
	got, err := tree.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	return got, nil
}

func TestAPreparedImageIsUnpackedWithoutItsBlobs(t *testing.T) {
	c := open(t)
	src, img := imageOf(t, layersOf(t)...)
	want := unpacked(t, src, img)
	prepare(t, c, src, img)
	src.bytes = nil
	tars := openTars(t, c)
	got, err := unpackFrom(t, tars, src, img)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, want, got)

	var file, again bytes.Buffer
	if _, err := c.Write(t.Context(), &file, src, img, Options{}); err != nil {
		t.Fatal(err)
	}
	other := open(t)
	if _, err := other.Write(t.Context(), &again, tars.Over(src), img, Options{}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(file.Bytes(), again.Bytes()) {
		t.Error("another file of the tars")
	}
}

// A tar may begin with any bytes, those of a compressed file as well.
func TestATarIsNotTakenForACompressedFile(t *testing.T) {
	c := open(t)
	gzip, zstd := file("\x1f\x8b\x08", "x"), file("\x28\xb5\x2f\xfd", "y")
	gzip.Format, zstd.Format = tar.FormatGNU, tar.FormatGNU // names as they are
	src, img := imageOf(t, tarOf(t, gzip), tarOf(t, zstd))
	want := unpacked(t, src, img)
	prepare(t, c, src, img)
	src.bytes = nil
	got, err := unpackFrom(t, openTars(t, c), src, img)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, want, got)
}

func TestATarThatHasRottedIsFoundOut(t *testing.T) {
	c := open(t)
	src, img := imageOf(t, layersOf(t)...)
	want := unpacked(t, src, img)
	p := prepare(t, c, src, img)
	f, err := os.OpenFile(p.Devices[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("X"), 100_000); err != nil { // in a file's content
		t.Fatal(err)
	}
	f.Close()
	tars := openTars(t, c)
	_, err = unpackFrom(t, tars, src, img)
	if m := (*layers.MismatchError)(nil); !errors.As(err, &m) || m.Want != img.Config.RootFS.DiffIDs[0] {
		t.Errorf("%v", err)
	}
	dropped, err := tars.DropDamaged(t.Context(), img)
	if err != nil || len(dropped) != 1 || tars.Has(dropped[0]) {
		t.Errorf("dropped %v, %v", dropped, err)
	}
	got, err := unpackFrom(t, tars, src, img) // of its blob
	if err != nil {
		t.Fatal(err)
	}
	compare(t, want, got)
}

func TestTarsAreNotPrunedWhileTheyAreOpen(t *testing.T) {
	c := open(t)
	src, img := imageOf(t, tarOf(t, entry{Header: tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755}}))
	prepare(t, c, src, img).Close()
	tars := openTars(t, c)
	if _, err := c.Prune(keeping(), os.RemoveAll); !errors.Is(err, ErrInUse) {
		t.Errorf("while they are open: %v", err)
	}
	if !tars.Has(img.Config.RootFS.DiffIDs[0]) {
		t.Error("they are gone")
	}
	if err := tars.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Prune(keeping(), os.RemoveAll); err != nil {
		t.Error(err)
	}
	if openTars(t, c).Has(img.Config.RootFS.DiffIDs[0]) {
		t.Error("they are still there")
	}
}

func TestNoTarsAtAll(t *testing.T) {
	var none *Tars
	src, img := imageOf(t, tarOf(t, file("a", "1")))
	if none.Has(img.Config.RootFS.DiffIDs[0]) {
		t.Error("has a layer")
	}
	if r, err := none.Over(src).Blob(context.Background(), img.Manifest.Layers[0]); err != nil {
		t.Error(err)
	} else {
		r.Close()
	}
	if dropped, err := none.DropDamaged(t.Context(), img); err != nil || len(dropped) > 0 {
		t.Errorf("dropped %v, %v", dropped, err)
	}
	if err := errors.Join(none.Sync(), none.Close()); err != nil {
		t.Error(err)
	}
}
