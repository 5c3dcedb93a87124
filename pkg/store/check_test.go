package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestCheckNamesWhatIsNotRight(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(s *Store, img *Image) error
		// want is the findings, of the kinds of files by their names' first words.
		want []string
	}{
		{"nothing", func(*Store, *Image) error { return nil }, nil},
		{"a layer", func(s *Store, img *Image) error { return spoil(s, img.Manifest.Layers[0].Digest) }, []string{"damaged layer of web"}},
		{"a layer that is gone", func(s *Store, img *Image) error { return os.Remove(s.blobPath(img.Manifest.Layers[0].Digest)) }, []string{"missing layer of web"}},
		{"a config", func(s *Store, img *Image) error { return spoil(s, img.Manifest.Config.Digest) }, []string{"damaged config of web"}},
		{"a manifest", func(s *Store, img *Image) error { return spoil(s, img.Descriptor.Digest) }, []string{"damaged manifest of web"}},
		{"a manifest that is gone", func(s *Store, img *Image) error { return os.Remove(s.blobPath(img.Descriptor.Digest)) },
			[]string{"missing manifest of web", "unused config of ", "unused layer of "}},
		{"all of them", func(s *Store, img *Image) error {
			return errors.Join(spoil(s, img.Manifest.Layers[0].Digest), spoil(s, img.Manifest.Config.Digest), spoil(s, img.Descriptor.Digest))
		}, []string{"damaged config of ", "damaged layer of ", "damaged manifest of web"}},
		{"a name that is gone", func(s *Store, _ *Image) error { return s.Untag(context.Background(), "web") },
			[]string{"unused config of ", "unused layer of ", "unused manifest of "}},
		{"what is left", func(s *Store, _ *Image) error {
			return errors.Join(os.WriteFile(s.layout+"/ingest/x", nil, 0o600), os.Mkdir(s.layout+"/blobs/sha256/x", 0o700))
		}, []string{"partial other of ", "unknown other of "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, t.TempDir())
			img := testImage(t, s, "web")
			if err := s.Tag(t.Context(), "web", img); err != nil {
				t.Fatal(err)
			}
			if err := c.damage(s, img); err != nil {
				t.Fatal(err)
			}
			found, done, err := s.Check(t.Context(), 3)
			if err != nil {
				t.Fatal(err)
			}
			kinds := map[digest.Digest]string{img.Descriptor.Digest: "manifest", img.Manifest.Config.Digest: "config", img.Manifest.Layers[0].Digest: "layer"}
			var got []string
			for _, f := range found {
				kind := kinds[f.Digest]
				if kind == "" {
					kind = "other"
				}
				got = append(got, fmt.Sprintf("%s %s of %s", f.What, kind, strings.Join(f.Images, ",")))
				if kind != "other" && f.Path != s.blobPath(f.Digest) {
					t.Errorf("path %s", f.Path)
				}
				if kind == "layer" && len(f.Images) > 0 && !slices.Equal(f.DiffIDs, img.Config.RootFS.DiffIDs) {
					t.Errorf("the layer's DiffIDs are %v", f.DiffIDs)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("found %q, want %q", got, c.want)
			}
			if c.want == nil && (done.Files != 3 || done.Bytes != img.Size()) {
				t.Errorf("read %+v", done)
			}
			n, err := s.Drop(found)
			if want := strings.Count(strings.Join(c.want, "\n"), "damaged"); err != nil || n != want {
				t.Errorf("dropped %d, %v; want %d", n, err, want)
			}
			if again, _, err := s.Check(t.Context(), 1); err != nil || slices.ContainsFunc(again, func(f Finding) bool { return f.What == Damaged }) {
				t.Errorf("after that: %v, %v", again, err)
			}
		})
	}
}

func spoil(s *Store, d digest.Digest) error {
	path := s.blobPath(d)
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	b[len(b)/2] ^= 1
	return os.WriteFile(path, b, 0o600)
}

func TestCheckLeavesWhatIsOnItsWay(t *testing.T) {
	s := open(t, t.TempDir())
	in := ingest(t, s, describe(blob))
	defer in.Close()
	write(t, in, blob[:3])
	if found, _, err := s.Check(t.Context(), 1); err != nil || len(found) > 0 {
		t.Errorf("%v, %v", found, err)
	}
	if _, err := os.Stat(filepath.Join(s.layout, "ingest", describe(blob).Digest.Encoded())); err != nil {
		t.Error(err)
	}
}

func TestCheckCanBeCancelled(t *testing.T) {
	s := open(t, t.TempDir())
	testImage(t, s, "web")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.Check(ctx, 2); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
