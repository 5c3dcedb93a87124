package image

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
)

// maker makes a tree of one file, and counts how often.
func maker(made *atomic.Int32) func(dir string) error {
	return func(dir string) error {
		made.Add(1)
		staged := dir + ".new"
		if err := os.MkdirAll(filepath.Join(staged, "rootfs"), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(staged, "rootfs/file"), nil, 0o600); err != nil {
			return err
		}
		return os.Rename(staged, dir)
	}
}

func TestImagesAreUnpackedOnce(t *testing.T) {
	c := open(t)
	id := ID{Manifest: digest.FromString("an image")}
	var made atomic.Int32
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			u, err := c.Unpacked(t.Context(), id, "", maker(&made))
			if err != nil {
				t.Error(err)
				return
			}
			defer u.Close()
			if _, err := os.Stat(filepath.Join(u.Rootfs, "file")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := made.Load(); n != 1 {
		t.Errorf("unpacked %d times", n)
	}
	// Of other owners it is another tree.
	u, err := c.Unpacked(t.Context(), id, "me", maker(&made))
	if err != nil || made.Load() != 2 {
		t.Fatalf("of others: %v, %d times", err, made.Load())
	}
	u.Close()
	if left, err := os.ReadDir(c.root + "/trees/ingest"); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestUnpackedImagesArePruned(t *testing.T) {
	c := open(t)
	kept, gone := ID{Manifest: digest.FromString("kept")}, ID{Manifest: digest.FromString("gone")}
	var made atomic.Int32
	for _, id := range []ID{kept, gone} {
		u, err := c.Unpacked(t.Context(), id, "me", maker(&made))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Prune(func() ([]ID, error) { return nil, nil }, os.RemoveAll); !errors.Is(err, ErrInUse) {
			t.Errorf("while it is open: %v", err)
		}
		u.Close()
	}
	// What a killed process leaves.
	left := c.root + "/trees/ingest/left/.half"
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	var removed []string
	remove := func(path string) error {
		removed = append(removed, filepath.Base(path))
		return os.RemoveAll(path)
	}
	if _, err := c.Prune(func() ([]ID, error) { return []ID{kept}, nil }, remove); err != nil {
		t.Fatal(err)
	}
	if len(removed) != 2 || removed[0] != "left" || removed[1] != gone.Manifest.Encoded()+".me" {
		t.Errorf("removed %q", removed)
	}
}

// A tree that was complete when its maker was killed is only moved.
func TestCompleteTreesAreTaken(t *testing.T) {
	c := open(t)
	id := ID{Manifest: digest.FromString("an image")}
	var made atomic.Int32
	if err := os.Mkdir(c.root+"/trees/ingest/"+id.Manifest.Encoded(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := maker(&made)(c.root + "/trees/ingest/" + id.Manifest.Encoded() + "/tree"); err != nil {
		t.Fatal(err)
	}
	u, err := c.Unpacked(t.Context(), id, "", maker(&made))
	if err != nil || made.Load() != 1 {
		t.Fatalf("%v, unpacked %d times", err, made.Load())
	}
	u.Close()
}

func TestFailureToUnpackLeavesNothing(t *testing.T) {
	c := open(t)
	id := ID{Manifest: digest.FromString("an image")}
	want := errors.New("no")
	if _, err := c.Unpacked(t.Context(), id, "", func(string) error { return want }); !errors.Is(err, want) {
		t.Errorf("error %v", err)
	}
	for _, dir := range []string{"/trees/ingest", "/trees/sha256"} {
		if left, err := os.ReadDir(c.root + dir); err != nil || len(left) > 0 {
			t.Errorf("%s: %v, %v", dir, left, err)
		}
	}
	if _, err := c.Unpacked(t.Context(), ID{Manifest: "sha256:../../x"}, "", nil); err == nil {
		t.Error("a digest that is none was taken")
	}
}
