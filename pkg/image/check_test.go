package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"peel/pkg/store"
)

// flip flips one bit of a file.
func flip(path string, off int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	b := make([]byte, 1)
	_, err = f.ReadAt(b, off)
	if err == nil {
		b[0] ^= 0x10
		_, err = f.WriteAt(b, off)
	}
	return errors.Join(err, f.Close())
}

// findingsOf writes findings as lines, with paths below the cache.
func findingsOf(c *Cache, fs []store.Finding) string {
	var lines []string
	for _, f := range fs {
		path, _ := filepath.Rel(c.root, f.Path)
		lines = append(lines, fmt.Sprint(f.What, " ", path))
	}
	return strings.Join(lines, "\n")
}

func TestVerifyNamesEachFileThatIsNotRight(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(*Cache, *Prepared) error
		// what is found; LAYER0 to LAYER3 and INDEX stand for names
		want string
	}{
		{"nothing", func(*Cache, *Prepared) error { return nil }, ""},
		{"a bit of a file's content", func(_ *Cache, p *Prepared) error { return flip(p.Devices[0], 100_000) }, "damaged layers/sha256/LAYER0"},
		{"a bit of a header", func(_ *Cache, p *Prepared) error { return flip(p.Devices[1], 0) }, "damaged layers/sha256/LAYER1"},
		{"the last bit of a tar without an end", func(_ *Cache, p *Prepared) error { return flip(p.Devices[3], 512+2099) }, "damaged layers/sha256/LAYER3"},
		{"a bit of a file with holes", func(_ *Cache, p *Prepared) error { return flip(p.Devices[4], 1<<20) }, "damaged layers/sha256/LAYER2"},
		{"two layers", func(_ *Cache, p *Prepared) error {
			return errors.Join(flip(p.Devices[0], 100_000), flip(p.Devices[1], 10))
		}, "damaged layers/sha256/LAYER0\ndamaged layers/sha256/LAYER1"},
		{"a tar cut short", func(_ *Cache, p *Prepared) error { return os.Truncate(p.Devices[0], 1024) }, "damaged layers/sha256/LAYER0"},
		{"a tar that is gone", func(_ *Cache, p *Prepared) error { return os.Remove(p.Devices[1]) }, "damaged layers/sha256/LAYER1"},
		{"no size beside a tar", func(_ *Cache, p *Prepared) error { return os.Remove(filepath.Dir(p.Devices[0]) + "/size") }, "damaged layers/sha256/LAYER0"},
		{"a bit of the index", func(_ *Cache, p *Prepared) error { return flip(p.Index, 3000) }, "damaged erofs/sha256/INDEX"},
		{"the last byte of the index", func(_ *Cache, p *Prepared) error {
			fi, err := os.Stat(p.Index)
			if err != nil {
				return err
			}
			return flip(p.Index, fi.Size()-1)
		}, "damaged erofs/sha256/INDEX"},
		{"an index cut short", func(_ *Cache, p *Prepared) error { return os.Truncate(p.Index, 4096) }, "damaged erofs/sha256/INDEX"},
		{"an index with more behind it", func(_ *Cache, p *Prepared) error {
			fi, err := os.Stat(p.Index)
			if err != nil {
				return err
			}
			return errors.Join(os.Truncate(p.Index, fi.Size()+512), writeSizes(filepath.Dir(p.Index), indexVersion, fi.Size()+512))
		}, "damaged erofs/sha256/INDEX"},
		{"a layer that is gone, and no container needs", func(_ *Cache, p *Prepared) error {
			return errors.Join(os.RemoveAll(filepath.Dir(p.Devices[1])), os.RemoveAll(filepath.Dir(p.Index)))
		}, ""},
		{"what killed processes have left", func(c *Cache, _ *Prepared) error {
			return errors.Join(os.Mkdir(c.root+"/layers/ingest/x", 0o700), os.Mkdir(c.root+"/trees/ingest/x", 0o700), os.Mkdir(c.root+"/erofs/index-1", 0o700), os.WriteFile(c.root+"/erofs/check-1", nil, 0o600))
		}, "partial erofs/check-1\npartial erofs/index-1\npartial layers/ingest/x\npartial trees/ingest/x"},
		{"what nobody knows", func(c *Cache, _ *Prepared) error {
			return errors.Join(os.WriteFile(c.root+"/layers/sha256/x", nil, 0o600), os.Mkdir(c.root+"/erofs/y", 0o700), os.Mkdir(c.root+"/layers/z", 0o700))
		}, "unknown erofs/y\nunknown layers/sha256/x\nunknown layers/z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cache := open(t)
			src, img := imageOf(t, layersOf(t)...)
			p := prepare(t, cache, src, img)
			p.Close()
			want, err := os.ReadFile(p.Index)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.damage(cache, p); err != nil {
				t.Fatal(err)
			}
			ids := []ID{IDOf(img)}
			found, done, err := cache.Verify(t.Context(), ids, nil, 2)
			if err != nil {
				t.Fatal(err)
			}
			names := []string{"INDEX", img.Descriptor.Digest.Encoded()}
			for i, d := range img.Config.RootFS.DiffIDs {
				names = append(names, fmt.Sprint("LAYER", i), d.Encoded())
			}
			got := sortedLines(findingsOf(cache, found))
			if want := sortedLines(strings.NewReplacer(names...).Replace(c.want)); got != want {
				t.Errorf("found:\n%s\nwant:\n%s", got, want)
			}
			if c.want == "" && c.name == "nothing" && (done.Files != 5 || done.Bytes < 1_600_000) {
				t.Errorf("read %+v", done)
			}

			// And what is damaged is gone after that, and made again.
			if err := cache.Drop(found, ids); err != nil {
				t.Fatal(err)
			}
			again := prepare(t, cache, src, img)
			again.Close()
			if left, _, err := cache.Verify(t.Context(), ids, nil, 2); err != nil || strings.Contains(findingsOf(cache, left), "damaged") {
				t.Errorf("after it was made again: %v, %s", err, findingsOf(cache, left))
			}
			if b, err := os.ReadFile(again.Index); err != nil || !bytes.Equal(b, want) {
				t.Errorf("%v, or another index", err)
			}
		})
	}
}

func sortedLines(s string) string {
	lines := strings.Split(s, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestVerifyKnowsWhoNeedsWhat(t *testing.T) {
	c := open(t)
	tars := layersOf(t)
	src, img := imageOf(t, tars[0], tars[1])
	prepare(t, c, src, img).Close()
	all := func(images, containers []ID) string {
		t.Helper()
		found, _, err := c.Verify(t.Context(), images, containers, 1)
		if err != nil {
			t.Fatal(err)
		}
		return findingsOf(c, found)
	}
	if got := all([]ID{IDOf(img)}, nil); got != "" {
		t.Errorf("all is needed: %s", got)
	}
	if got := all(nil, []ID{IDOf(img)}); got != "" {
		t.Errorf("by a container: %s", got)
	}
	for _, owners := range []string{"", ".u0"} {
		if err := os.Mkdir(c.root+"/trees/sha256/"+img.Descriptor.Digest.Encoded()+owners, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if got := all([]ID{IDOf(img)}, nil); got != "" {
		t.Errorf("the image's files are needed: %s", got)
	}
	if got := all(nil, nil); strings.Count(got, "unused ") != 5 {
		t.Errorf("nothing is needed: %s", got)
	}
	absent := ID{digest.FromString("m"), []digest.Digest{digest.FromString("l")}}
	if got := all([]ID{IDOf(img), absent}, nil); got != "" {
		t.Errorf("an image that is not prepared: %s", got)
	}
	if got, want := all([]ID{IDOf(img)}, []ID{absent}), "missing layers/sha256/"+digest.FromString("l").Encoded(); got != want {
		t.Errorf("a container that is made of it: %s", got)
	}
	if _, _, err := c.Verify(t.Context(), []ID{{Manifest: "sha256:../../etc"}}, nil, 1); err == nil {
		t.Error("a digest that is none was taken")
	}
}

func TestVerifyLeavesWhatIsOnItsWay(t *testing.T) {
	c := open(t)
	lock, err := lockDir(t.Context(), c.root+"/layers/ingest/x")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if found, _, err := c.Verify(t.Context(), nil, nil, 1); err != nil || len(found) > 0 {
		t.Errorf("%v, %v", err, found)
	}
}

func TestDropWaitsForNobody(t *testing.T) {
	c := open(t)
	src, img := imageOf(t, layersOf(t)...)
	p := prepare(t, c, src, img)
	if err := c.Drop(nil, nil); !errors.Is(err, ErrInUse) {
		t.Errorf("while it is open: %v", err)
	}
	p.Close()
	if err := c.Drop(nil, []ID{IDOf(img)}); err != nil {
		t.Error(err)
	}
	if p, err := c.Find(IDOf(img)); err != nil {
		t.Errorf("what is sound has gone: %v", err)
	} else {
		p.Close()
	}
}

func TestVerifyCanBeCancelled(t *testing.T) {
	c := open(t)
	src, img := imageOf(t, layersOf(t)...)
	prepare(t, c, src, img).Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := c.Verify(ctx, []ID{IDOf(img)}, nil, 2); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
