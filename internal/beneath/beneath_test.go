package beneath

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// tree makes a directory to resolve in, and beside it what must not be reached.
func tree(t testing.TB) (root string) {
	t.Helper()
	top := t.TempDir()
	root = filepath.Join(top, "root")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"root/a/b/c", "root/etc", "outside"} {
		must(os.MkdirAll(filepath.Join(top, d), 0o755))
	}
	for name, text := range map[string]string{"root/f": "root", "root/a/f": "a", "root/a/b/f": "b", "root/etc/passwd": "inside", "outside/f": "outside", "f": "above"} {
		must(os.WriteFile(filepath.Join(top, name), []byte(text), 0o644))
	}
	for name, target := range map[string]string{
		"link": "f", "a/up": "../f", "a/abs": "/etc/passwd", "out": "../../../outside/f", "dir": "a/b", "absdir": "/a/b",
		"chain": "dir", "loop1": "loop2", "loop2": "loop1", "dangling": "nowhere/x", "outdir": "../outside", "self": ".", "rootlink": "/", "slash": "a/b/",
		"a/b/deep": "../../etc/../a/./f",
	} {
		must(os.Symlink(target, filepath.Join(root, name)))
	}
	return root
}

// both opens root in both ways: with openat2 and by steps.
func both(t testing.TB, root string) map[string]*Dir {
	t.Helper()
	dirs := map[string]*Dir{}
	for _, name := range []string{"openat2", "walk"} {
		d, err := OpenDir(root)
		if err != nil {
			t.Fatal(err)
		}
		if name == "openat2" && d.walk {
			t.Log("SKIPPED in part: no openat2 on this kernel")
			d.Close()
			continue
		}
		d.walk = name == "walk"
		dirs[name] = d
		t.Cleanup(func() { d.Close() })
	}
	return dirs
}

func read(f *os.File, err error) string {
	if err != nil {
		var pe *os.PathError
		if !errors.As(err, &pe) {
			return "not a PathError: " + err.Error()
		}
		return pe.Err.Error()
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if errors.Is(err, unix.EISDIR) {
		return "directory"
	}
	return string(b)
}

func TestOpenFollowsNoLinkAndFollowStaysInside(t *testing.T) {
	const (
		loop  = "too many levels of symbolic links"
		cross = "invalid cross-device link"
		none  = "no such file or directory"
		noDir = "not a directory"
	)
	dirs := both(t, tree(t))
	for _, c := range []struct{ name, open, follow string }{
		{"f", "root", "root"},
		{"a/b/f", "b", "b"},
		{"./a//b/./f", "b", "b"},
		{"a/b", "directory", "directory"},
		{"a/b/", "directory", "directory"},
		{".", "directory", "directory"},
		{"a/.", "directory", "directory"},
		{"a/b/..", "directory", "directory"},
		{"", none, none},
		{"nothing", none, none},
		{"nothing/f", none, none},
		{"f/x", noDir, noDir},
		{"f/", noDir, noDir},
		{"f/..", noDir, noDir},
		{"/f", cross, "root"},
		{"//f", cross, "root"},
		{"/", cross, "directory"},
		{"..", cross, "directory"},
		{"../f", cross, "root"},
		{"a/../../f", cross, "root"},
		{"a/b/../../../../outside/f", cross, none},
		{"a/b/../f", "a", "a"},
		{"link", loop, "root"},
		{"a/up", loop, "root"},
		{"a/abs", loop, "inside"},
		{"out", loop, none},
		{"outdir/f", loop, none},
		{"dir/f", loop, "b"},
		{"absdir/f", loop, "b"},
		{"chain/f", loop, "b"},
		{"chain/../f", loop, "a"},
		{"dir/", loop, "directory"},
		{"slash", loop, "directory"},
		{"slash/f", loop, "b"},
		{"link/", loop, noDir},
		{"loop1", loop, loop},
		{"loop1/f", loop, loop},
		{"dangling", loop, none},
		{"self/self/self/f", loop, "root"},
		{"rootlink/../rootlink/a/f", loop, "a"},
		{"a/b/deep", loop, "a"},
		{strings.Repeat("a", 256), "file name too long", "file name too long"},
		{strings.Repeat("self/", 39) + "f", loop, "root"},
		{strings.Repeat("self/", 41) + "f", loop, loop},
		{strings.Repeat("./", 3000) + "f", "file name too long", "file name too long"},
	} {
		for how, d := range dirs {
			if got := read(d.Open(c.name, unix.O_RDONLY, 0)); got != c.open {
				t.Errorf("%s: Open(%.60q) = %q, want %q", how, c.name, got, c.open)
			}
			if got := read(d.Follow(c.name, unix.O_RDONLY, 0)); got != c.follow {
				t.Errorf("%s: Follow(%.60q) = %q, want %q", how, c.name, got, c.follow)
			}
		}
	}
}

func TestReadlink(t *testing.T) {
	for how, d := range both(t, tree(t)) {
		for name, want := range map[string]string{"link": "f", "a/up": "../f", "absdir": "/a/b"} {
			if got, err := d.Readlink(name); got != want || err != nil {
				t.Errorf("%s: Readlink(%s) = %q, %v; want %q", how, name, got, err, want)
			}
		}
		for name, want := range map[string]error{"f": unix.EINVAL, "a": unix.EINVAL, "nothing": unix.ENOENT, "dir/f": unix.ELOOP, "../root/link": unix.EXDEV} {
			if _, err := d.Readlink(name); !errors.Is(err, want) {
				t.Errorf("%s: Readlink(%s) = %v, want %v", how, name, err, want)
			}
		}
	}
}

// TestBothWaysAgree opens random names with random flags in both ways.
func TestBothWaysAgree(t *testing.T) {
	root := tree(t)
	dirs := both(t, root)
	if len(dirs) < 2 {
		t.Skip("SKIPPED: no openat2 to compare with")
	}
	comps := []string{"a", "b", "c", "f", "etc", "passwd", "link", "up", "abs", "out", "dir", "absdir", "chain", "loop1", "dangling", "outdir", "self", "rootlink", "slash", "deep", "..", ".", "", "nowhere"}
	flags := []int{unix.O_RDONLY, unix.O_RDONLY | unix.O_DIRECTORY, unix.O_PATH, unix.O_PATH | unix.O_NOFOLLOW, unix.O_RDONLY | unix.O_NOFOLLOW,
		unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW, unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW}
	rnd := rand.New(rand.NewPCG(1, 2))
	what := func(f *os.File, err error) string {
		if err != nil {
			return read(nil, err)
		}
		defer f.Close()
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%o inode %d", st.Mode, st.Ino)
	}
	for range 20000 {
		var parts []string
		for range 1 + rnd.IntN(6) {
			parts = append(parts, comps[rnd.IntN(len(comps))])
		}
		name, flag := strings.Join(parts, "/"), flags[rnd.IntN(len(flags))]
		fast, slow := what(dirs["openat2"].Open(name, flag, 0)), what(dirs["walk"].Open(name, flag, 0))
		if fast != slow {
			t.Errorf("Open(%q, %#o): openat2 %s, walk %s", name, flag, fast, slow)
		}
		fast, slow = what(dirs["openat2"].Follow(name, flag, 0)), what(dirs["walk"].Follow(name, flag, 0))
		if fast != slow {
			t.Errorf("Follow(%q, %#o): openat2 %s, walk %s", name, flag, fast, slow)
		}
	}
}

func TestCreateStaysInside(t *testing.T) {
	for _, how := range []string{"openat2", "walk"} {
		root := tree(t)
		d := both(t, root)[how]
		if d == nil {
			continue
		}
		const create = unix.O_WRONLY | unix.O_CREAT
		for name, made := range map[string]string{
			"new1": "new1", "a/b/new2": "a/b/new2", "dir/new3": "a/b/new3", "../new4": "new4", "f": "f", "outdir/new5": "", "dangling": "",
		} {
			f, err := d.Follow(name, create, 0o640)
			if (err == nil) != (made != "") {
				t.Errorf("%s: Follow(%s, O_CREAT) = %v", how, name, err)
			}
			if err != nil {
				continue
			}
			f.Close()
			if _, err := os.Lstat(filepath.Join(root, made)); err != nil {
				t.Errorf("%s: Follow(%s, O_CREAT) did not make %s", how, name, made)
			}
		}
		if _, err := d.Open("f", create|unix.O_EXCL, 0o600); !errors.Is(err, unix.EEXIST) {
			t.Errorf("%s: creating f again: %v", how, err)
		}
		if _, err := d.Open("link", create|unix.O_EXCL, 0o600); !errors.Is(err, unix.EEXIST) {
			t.Errorf("%s: creating over a link: %v", how, err)
		}
		for _, dir := range []string{"..", "../outside"} {
			if entries, _ := os.ReadDir(filepath.Join(root, dir)); len(entries) > 3 {
				t.Errorf("%s: something was made outside: %v", how, entries)
			}
		}
	}
}

// TestRaceNeverLeadsOut looks names up while another thread swaps a directory for
// a link that leads out, and moves directories out of the tree, as fast as it can.
func TestRaceNeverLeadsOut(t *testing.T) {
	root := tree(t)
	if err := os.Symlink("../outside", filepath.Join(root, "evil")); err != nil {
		t.Fatal(err)
	}
	dirs := both(t, root)
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		fd, err := unix.Open(root, unix.O_PATH, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(fd)
		for !stop.Load() {
			unix.Renameat2(fd, "a", fd, "evil", unix.RENAME_EXCHANGE)
			unix.Renameat(fd, "etc", fd, "../etc")
			unix.Renameat(fd, "../etc", fd, "etc")
		}
	})
	bad := func(s string) bool { return s == "outside" || s == "above" }
	for how, d := range dirs {
		for range 20000 {
			if got := read(d.Open("a/f", unix.O_RDONLY, 0)); bad(got) {
				t.Fatalf("%s: Open(a/f) led out: %q", how, got)
			}
			if got := read(d.Follow("a/f", unix.O_RDONLY, 0)); bad(got) {
				t.Fatalf("%s: Follow(a/f) led out: %q", how, got)
			}
			if got := read(d.Follow("etc/../f", unix.O_RDONLY, 0)); bad(got) {
				t.Fatalf("%s: Follow(etc/../f) led out: %q", how, got)
			}
		}
	}
	stop.Store(true)
	wg.Wait()
}
