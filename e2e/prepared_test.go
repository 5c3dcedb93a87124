package e2e

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"peel/e2e/tree"
	prepared "peel/pkg/image"
	"peel/pkg/store"
)

// An image prepared to be mounted shows the same as one unpacked into files, and
// so does the one file that unpack --to erofs makes.
func TestPreparedImagesAreWhatUnpackMakes(t *testing.T) {
	for _, name := range []string{"odd", "odd-rare", "nginx", "nginx-zstd", "big"} {
		t.Run(name, func(t *testing.T) {
			ref := published(t, name)
			dir := t.TempDir()
			want := list(t, peelRootfs(t, ref, dir))

			st, err := store.Open(filepath.Join(dir, "store"))
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			img, err := st.Resolve(ref)
			if err != nil {
				t.Fatal(err)
			}
			cache, err := prepared.Open(st.Root())
			if err != nil {
				t.Fatal(err)
			}
			if err := cache.Check(); err != nil {
				if u := (*prepared.UnsupportedError)(nil); errors.As(err, &u) {
					skip(t, "EROFS mounts: "+err.Error())
				}
				t.Fatal(err)
			}
			p, err := cache.Prepare(t.Context(), st, img, prepared.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			same(t, want, p)

			t.Run("in one file", func(t *testing.T) {
				path := filepath.Join(dir, "image.erofs")
				peel(t, dir).ok(t, "unpack", "-q", "--to", "erofs", ref, path)
				same(t, want, &prepared.Prepared{Index: path})
				fsck(t, path)
			})
		})
	}
}

// same compares a mounted image with a tree of files.
func same(t *testing.T, want tree.Tree, p *prepared.Prepared) {
	t.Helper()
	m, err := p.Tree()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var got tree.Tree
	_ = m.Do(func(fd int) error {
		got = list(t, fmt.Sprintf("/proc/self/fd/%d/", fd))
		return nil
	})
	for i, d := range tree.Compare(want, got) {
		if i == 20 {
			t.Fatal("and more")
		}
		t.Error(d)
	}
}

// fsck has the checker of erofs-utils read all of an image.
func fsck(t *testing.T, path string) {
	t.Helper()
	if _, err := exec.LookPath("fsck.erofs"); err != nil {
		skip(t, "fsck.erofs")
	}
	out, err := exec.CommandContext(t.Context(), "fsck.erofs", "--extract", path).CombinedOutput()
	if s := strings.TrimSpace(string(out)); err != nil || s != "" {
		t.Errorf("%v: %s", err, s)
	}
}
