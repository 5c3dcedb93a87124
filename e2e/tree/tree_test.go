package tree

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sample builds a tree of one directory, one file with a second name, and a link.
func sample(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	must(t, os.Mkdir(filepath.Join(root, "d"), 0o755))
	must(t, os.WriteFile(filepath.Join(root, "d/f"), []byte("abc"), 0o644))
	must(t, os.Link(filepath.Join(root, "d/f"), filepath.Join(root, "g")))
	must(t, os.Symlink("d/f", filepath.Join(root, "l")))
	must(t, unix.Mkfifo(filepath.Join(root, "p"), 0o600))
	for _, name := range []string{"d/f", "l", "p", "d", "."} {
		when := []unix.Timespec{{Sec: 1, Nsec: 5}, {Sec: 7, Nsec: 8}}
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(root, name), when, unix.AT_SYMLINK_NOFOLLOW))
	}
	return root
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestListShowsWhatIsThere(t *testing.T) {
	list, err := List(sample(t))
	must(t, err)
	u, g := os.Getuid(), os.Getgid()
	for path, want := range map[string]string{
		"d":   fmt.Sprintf(`{d dir 493 %d %d 0    7.000000008 map[] []}`, u, g),
		"d/f": fmt.Sprintf(`{d/f file 420 %d %d 3 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad   7.000000008 map[] [d/f g]}`, u, g),
		"g":   fmt.Sprintf(`{g file 420 %d %d 3 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad   7.000000008 map[] [d/f g]}`, u, g),
		"l":   fmt.Sprintf(`{l symlink 511 %d %d 0  d/f  7.000000008 map[] []}`, u, g),
		"p":   fmt.Sprintf(`{p fifo 384 %d %d 0    7.000000008 map[] []}`, u, g),
	} {
		if got := fmt.Sprint(*list[path]); got != want {
			t.Errorf("%s\n got %s\nwant %s", path, got, want)
		}
	}
	if len(list) != 6 {
		t.Errorf("%d entries, want 6", len(list))
	}
}

func TestCompareFindsEveryChange(t *testing.T) {
	for _, c := range []struct {
		claim  string
		change func(root string) error
		want   string
		root   bool
	}{
		{claim: "equal trees", change: func(string) error { return nil }},
		{claim: "a mode", change: func(r string) error { return unix.Chmod(r+"/d", 0o1755) },
			want: "d: mode: want 0755, got 1755"},
		{claim: "content of equal size", change: func(r string) error {
			return rewrite(r+"/g", "abd")
		}, want: "d/f: content: want ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad, got a52d159f262b2c6ddb724a61840befc36eb30c88877a4030b65cbe86298449c9" +
			"; g: content: want ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad, got a52d159f262b2c6ddb724a61840befc36eb30c88877a4030b65cbe86298449c9"},
		{claim: "one nanosecond", change: func(r string) error { return os.Chtimes(r+"/d", time.Time{}, time.Unix(7, 9)) },
			want: "d: mtime: want 7.000000008, got 7.000000009"},
		{claim: "a link's target", change: func(r string) error { return replaceLink(r+"/l", "d/g") },
			want: "l: target: want d/f, got d/g"},
		{claim: "a hard link that has become a copy", change: func(r string) error {
			return copyOver(r + "/g")
		}, want: `d/f: links: want ["d/f" "g"], got []; g: links: want ["d/f" "g"], got []`},
		{claim: "a missing file", change: func(r string) error { return keepTime(r, func() error { return os.Remove(r + "/p") }) },
			want: "p: missing: want fifo, got nothing"},
		{claim: "an extra directory, once", change: func(r string) error {
			return keepTime(r, func() error { return os.MkdirAll(r+"/x/y/z", 0o755) })
		}, want: "x: extra: want nothing, got dir"},
		{claim: "another type", change: func(r string) error {
			return keepTime(r, func() error {
				if err := os.Remove(r + "/p"); err != nil {
					return err
				}
				return os.WriteFile(r+"/p", nil, 0o600)
			})
		}, want: "p: type: want fifo, got file"},
		{claim: "an owner", root: true, change: func(r string) error { return os.Lchown(r+"/l", 3, 4) },
			want: "l: owner: want 0:0, got 3:4"},
		{claim: "a device's number", root: true, change: func(r string) error {
			return keepTime(r, func() error { return unix.Mknod(r+"/n", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))) })
		}, want: "n: extra: want nothing, got char"},
		{claim: "an attribute", root: true, change: func(r string) error { return unix.Lsetxattr(r+"/d", "trusted.t", []byte("v"), 0) },
			want: `d: xattrs: want map[], got map["trusted.t":"v"]`},
	} {
		t.Run(c.claim, func(t *testing.T) {
			if c.root && os.Geteuid() != 0 {
				t.Skip("SKIPPED: needs root to change owners, devices and trusted attributes")
			}
			before, root := sample(t), sample(t)
			must(t, c.change(root))
			want, err := List(before)
			must(t, err)
			got, err := List(root)
			must(t, err)
			var lines []string
			for _, d := range Compare(want, got) {
				lines = append(lines, d.String())
			}
			if s := strings.Join(lines, "; "); s != c.want {
				t.Errorf("got  %s\nwant %s", s, c.want)
			}
		})
	}
}

// keepTime makes a change in a directory and gives it its time back.
func keepTime(dir string, change func() error) error {
	if err := change(); err != nil {
		return err
	}
	return os.Chtimes(dir, time.Time{}, time.Unix(7, 8))
}

func rewrite(path, content string) error {
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		return err
	}
	return os.Chtimes(path, time.Time{}, time.Unix(7, 8))
}

func replaceLink(path, target string) error {
	return keepTime(filepath.Dir(path), func() error {
		if err := os.Remove(path); err != nil {
			return err
		}
		if err := os.Symlink(target, path); err != nil {
			return err
		}
		when := []unix.Timespec{{Sec: 7, Nsec: 8}, {Sec: 7, Nsec: 8}}
		return unix.UtimesNanoAt(unix.AT_FDCWD, path, when, unix.AT_SYMLINK_NOFOLLOW)
	})
}

func copyOver(path string) error {
	return keepTime(filepath.Dir(path), func() error {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := os.Remove(path); err != nil {
			return err
		}
		return rewrite(path, string(b))
	})
}
