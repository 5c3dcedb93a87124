package image

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestAnImageIsRestoredByItsDigestsAlone(t *testing.T) {
	c := open(t)
	src, img := imageOf(t, layersOf(t)...)
	p := prepare(t, c, src, img)
	want, err := os.ReadFile(p.Index)
	if err != nil {
		t.Fatal(err)
	}
	id := IDOf(img)
	for _, damage := range []func() error{func() error { return nil }, func() error { return os.RemoveAll(c.indexDir(id.Manifest)) }} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		r, err := c.Restore(context.Background(), id)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(r.Index)
		if err != nil || !bytes.Equal(got, want) || len(r.Devices) != len(p.Devices) {
			t.Errorf("%v, or another index; devices %v", err, r.Devices)
		}
		r.Close()
	}
	if err := errors.Join(os.RemoveAll(c.indexDir(id.Manifest)), os.Remove(p.Devices[1])); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Restore(context.Background(), id); !errors.Is(err, ErrNotFound) {
		t.Errorf("a layer is gone: %v", err)
	}
	nothingLeft(t, c)
}

// A container's record is a file; what it calls digests becomes paths.
func TestOnlyDigestsAreRestored(t *testing.T) {
	c := open(t)
	good := digest.FromString("x")
	for _, id := range []ID{{"sha256:../../../etc", nil}, {"", nil}, {good, []digest.Digest{good, "sha512:00"}}, {good, []digest.Digest{"/"}}} {
		if _, err := c.Restore(context.Background(), id); err == nil || errors.Is(err, ErrNotFound) {
			t.Errorf("%v: %v", id, err)
		}
	}
}
