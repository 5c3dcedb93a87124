package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"peel/e2e/tree"
)

// peelRootfs is the rootfs as peel unpacks it.
func peelRootfs(t *testing.T, ref, dir string) string {
	rootfs := filepath.Join(dir, "rootfs")
	peel(t, dir).ok(t, "unpack", "-q", "--rootfs", ref, rootfs)
	return rootfs
}

// Each difference between peel's rootfs and a peer's is known and explained, or
// the test fails.
func TestRootfsEqualsThatOfPeers(t *testing.T) {
	for _, c := range []struct{ name, plain string }{
		{"odd", "odd"},
		{"nginx", "nginx-plain"},
		{"big", "big-plain"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ref := published(t, c.name)
			want := list(t, peelRootfs(t, ref, t.TempDir()))
			f := factsOf(t, image(t, c.plain))
			for _, p := range peers() {
				t.Run(p.name, func(t *testing.T) {
					need(t, p.needs...)
					compareExplained(t, p.name, f, want, list(t, p.rootfs(t, ref, t.TempDir())))
				})
			}
		})
	}
}

// What image-spec layer.md says of cases that some tools refuse.
func TestRareLayersFollowTheSpecification(t *testing.T) {
	ref := published(t, "odd-rare")
	rootfs := peelRootfs(t, ref, t.TempDir())
	got := list(t, rootfs)
	for path, want := range map[string]string{
		"bin":              "symlink 0777 usr/bin", // not replaced by a directory that no entry names
		"usr/bin/tool":     "file 0755 #!/bin/true",
		"lower/target":     "file 0644 of a lower layer",
		"lower/link":       "file 0644 of a lower layer",
		"same-layer/after": "file 0644 new", // a whiteout hides nothing of its own layer
		"twice":            "file 0600 second",
		"same-layer":       "dir 0755 ",
		"lower":            "dir 0755 ",
		"usr":              "dir 0755 ",
		"usr/bin":          "dir 0755 ",
		".":                "dir 0755 ",
	} {
		e := got[path]
		if e == nil {
			t.Errorf("%s is missing", path)
			continue
		}
		content := e.Target
		if e.Type == "file" {
			b, err := os.ReadFile(filepath.Join(rootfs, path))
			if err != nil {
				t.Fatal(err)
			}
			content = strings.TrimSpace(string(b))
		}
		if s := fmt.Sprintf("%s %04o %s", e.Type, e.Mode, content); s != want {
			t.Errorf("%s is %q, want %q", path, s, want)
		}
		delete(got, path)
	}
	if len(got) > 0 {
		t.Errorf("and there is more: %v", slices.Collect(maps.Keys(got)))
	}
	if links := list(t, rootfs)["lower/link"].Links; len(links) != 2 {
		t.Errorf("lower/link is one of %q", links)
	}
	t.Run("umoci", func(t *testing.T) {
		need(t, "skopeo")
		compareExplained(t, "umoci", factsOf(t, image(t, "odd-rare")), list(t, rootfs), list(t, umociRootfs(t, ref, t.TempDir())))
	})
}

// How an image is published does not change what comes out of it.
func TestRootfsIsTheSameInEveryDress(t *testing.T) {
	want := list(t, peelRootfs(t, published(t, "nginx"), t.TempDir()))
	for _, name := range []string{"nginx-plain", "nginx-zstd", "nginx-docker"} {
		t.Run(name, func(t *testing.T) {
			for _, d := range tree.Compare(want, list(t, peelRootfs(t, published(t, name), t.TempDir()))) {
				t.Errorf("nginx (want) and %s (got) differ: %s", name, d)
			}
		})
	}
}

func list(t *testing.T, rootfs string) tree.Tree {
	t.Helper()
	l, err := tree.List(rootfs)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func compareExplained(t *testing.T, peer string, f facts, want, got tree.Tree) {
	t.Helper()
	why := map[string]int{}
	unexplained := 0
	for _, d := range tree.Compare(want, got) {
		if reason := explain(peer, f, d); reason != "" {
			why[reason]++
		} else if unexplained++; unexplained <= 20 {
			t.Errorf("peel (want) and %s (got) differ: %s", peer, d)
		}
	}
	if unexplained > 20 {
		t.Errorf("and %d differences more", unexplained-20)
	}
	t.Logf("%d entries", len(want))
	for reason, n := range why {
		t.Logf("%d explained: %s", n, reason)
	}
}
