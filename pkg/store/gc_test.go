package store

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestPruneKeepsWhatANameLeadsTo(t *testing.T) {
	s := open(t, t.TempDir())
	kept, gone := testImage(t, s, "kept"), testImage(t, s, "gone")
	index := describe([]byte("the index that it was chosen from"))
	if err := s.WriteBlob(t.Context(), index, []byte("the index that it was chosen from")); err != nil {
		t.Fatal(err)
	}
	kept.Source = index.Digest
	for name, img := range map[string]*Image{"kept:1": kept, "kept:2": kept, "gone:1": gone} {
		if err := s.Tag(t.Context(), name, img); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"gone:1", "kept:2"} {
		if err := s.Untag(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	in := ingest(t, s, describe(blob)) // an interrupted transfer
	write(t, in, blob[:3])
	in.Close()

	p, err := s.Prune(t.Context(), nil)
	if err != nil || p.Blobs != 4 || p.Bytes != gone.Size()+3 { // manifest, config, layer, transfer
		t.Fatalf("removed %+v, %v; the image had %d bytes", p, err, gone.Size())
	}
	if got, err := s.Resolve("kept:1"); err != nil || !s.Has(got.Manifest.Layers[0]) || !s.Has(index) {
		t.Fatalf("kept image: %v", err)
	}
	if s.Has(gone.Manifest.Layers[0]) || s.Has(gone.Descriptor) {
		t.Fatal("blobs without a name are still there")
	}
	if p, err := s.Prune(t.Context(), nil); err != nil || p.Blobs != 0 {
		t.Fatalf("the second time %+v, %v", p, err)
	}
}

func TestPruneWaitsForNobodyAndHarmsNobody(t *testing.T) {
	root := t.TempDir()
	s, other := open(t, root), open(t, root)
	img := testImage(t, other, "just fetched, not named yet")
	if _, err := s.Prune(t.Context(), nil); !errors.Is(err, ErrInUse) {
		t.Fatalf("Prune beside another user: %v, want ErrInUse", err)
	}
	if _, err := other.Prune(t.Context(), nil); !errors.Is(err, ErrInUse) {
		t.Fatalf("who could not prune is not a user any more: %v", err)
	}
	if err := other.Tag(t.Context(), "x:1", img); err != nil {
		t.Fatal(err)
	}
	other.Close()
	if _, err := s.Prune(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Resolve("x:1"); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, root).Prune(t.Context(), nil); !errors.Is(err, ErrInUse) {
		t.Fatalf("after a Prune the store is not held any more: %v", err)
	}
}

func TestPruneStopsAtWhatItCannotRead(t *testing.T) {
	s := open(t, t.TempDir())
	img := testImage(t, s, "one")
	if err := s.Tag(t.Context(), "x:1", img); err != nil {
		t.Fatal(err)
	}
	m := s.blobPath(img.Descriptor.Digest)
	if err := os.WriteFile(m, make([]byte, img.Descriptor.Size), 0o600); err != nil {
		t.Fatal(err)
	}
	var bad *DamagedError
	if _, err := s.Prune(t.Context(), nil); !errors.As(err, &bad) {
		t.Fatalf("got %v, want a DamagedError", err)
	}
	if !s.Has(img.Manifest.Layers[0]) {
		t.Fatal("a layer of an unreadable manifest was removed")
	}
}

func TestUntagOfAnUnknownName(t *testing.T) {
	s := open(t, t.TempDir())
	if err := s.Untag(t.Context(), "x:1"); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	if idx, err := s.readIndex(); err != nil || len(idx.Manifests) != 0 || idx.MediaType != ocispec.MediaTypeImageIndex {
		t.Fatalf("index.json is %+v, %v", idx, err)
	}
}

// TestPruneKeepsWhatOtherToolsPutThere: indexes in indexes, and what a manifest is
// about (image-spec manifest.md, subject).
func TestPruneKeepsWhatOtherToolsPutThere(t *testing.T) {
	s := open(t, t.TempDir())
	put := func(content string) ocispec.Descriptor {
		d := describe([]byte(content))
		if err := s.WriteBlob(t.Context(), d, []byte(content)); err != nil {
			t.Fatal(err)
		}
		return d
	}
	nest := func(d ocispec.Descriptor, depth int) ocispec.Descriptor {
		for range depth {
			d = put(fmt.Sprintf(`{"manifests":[{"digest":%q,"size":%d}]}`, d.Digest, d.Size))
		}
		return d
	}
	name := func(d ocispec.Descriptor) {
		err := s.editIndex(t.Context(), func(idx *ocispec.Index) error {
			idx.Manifests = []ocispec.Descriptor{d}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	subject := put("{}")
	about := put(fmt.Sprintf(`{"subject":{"digest":%q,"size":%d}}`, subject.Digest, subject.Size))
	name(nest(about, maxNesting-1))
	if p, err := s.Prune(t.Context(), nil); err != nil || p.Blobs != 0 || !s.Has(subject) {
		t.Fatalf("removed %+v, %v", p, err)
	}
	name(nest(about, maxNesting+1))
	if _, err := s.Prune(t.Context(), nil); err == nil || !s.Has(subject) {
		t.Fatal("pruned what lies too deep to be looked at")
	}
}

func TestPruneTakesAwayEvenWhatANameLeadsTo(t *testing.T) {
	s := open(t, t.TempDir())
	img := testImage(t, s, "web")
	if err := s.Tag(t.Context(), "web", img); err != nil {
		t.Fatal(err)
	}
	layer := img.Manifest.Layers[0]
	p, err := s.Prune(t.Context(), map[digest.Digest]bool{layer.Digest: true, digest.FromString("no blob"): true, img.Manifest.Config.Digest: false})
	if err != nil || p.Blobs != 1 || p.Bytes != layer.Size || s.Has(layer) {
		t.Errorf("%+v, %v, the layer is there: %v", p, err, s.Has(layer))
	}
	if _, err := s.Resolve("web"); err != nil {
		t.Errorf("the image has lost its name: %v", err)
	}
	if dropped, err := s.DropDamaged(t.Context(), img); err != nil || len(dropped) > 0 {
		t.Errorf("what is not there is called damaged: %v, %v", dropped, err)
	}
}
