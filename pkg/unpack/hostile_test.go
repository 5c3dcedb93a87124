package unpack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// victim is a directory of the host's that no image may touch, beside the place
// where images are unpacked.
func newVictim(t testing.TB, work string) (path string, untouched func(t testing.TB, what string)) {
	t.Helper()
	path = filepath.Join(work, "victim")
	must(os.Mkdir(path, 0o755))
	must(os.WriteFile(filepath.Join(path, "secret"), []byte("host bytes"), 0o600))
	must(os.Mkdir(filepath.Join(path, "dir"), 0o700))
	state := func(t testing.TB) string {
		t.Helper()
		var st unix.Stat_t
		must(unix.Lstat(filepath.Join(path, "secret"), &st))
		return fmt.Sprintf("%s\nlinks of secret: %d", list(t, path), st.Nlink)
	}
	before := state(t)
	return path, func(t testing.TB, what string) {
		t.Helper()
		if after := state(t); after != before {
			t.Fatalf("%s: the host was touched:\n%s\nwas:\n%s", what, after, before)
		}
	}
}

// TestNoEntryLeavesTheRootfs tries every type of entry in every way out: "..",
// absolute names, and names through links of the same layer and of a lower one.
// Either the entry is refused, or it is made inside.
func TestNoEntryLeavesTheRootfs(t *testing.T) {
	needRoot(t)
	work := workDir(t)
	host, untouched := newVictim(t, work)
	ways := []struct{ name, lower, own, path string }{
		{"..", "", "", "../victim"},
		{".. out of the staging directory", "", "", "../../../victim"},
		{"a/../..", "dir a", "", "a/../../../victim"},
		{"absolute", "", "", host},
		{"through a link of the same layer", "", "link l ../../victim", "l"},
		{"through an absolute link of the same layer", "", "link l " + host, "l"},
		{"through a link of the layer below", "link l ../../victim", "", "l"},
		{"through an absolute link of the layer below", "link l " + host, "", "l"},
		{"through a link to a link", "link k " + host + "; link l k", "", "l"},
		{"through a link and ..", "dir a/b; link l a/b", "", "l/../../../../victim"},
		{"through /proc", "link l /proc/self/cwd", "", "l/../victim"},
		{"through a descriptor", "link l /proc/self/fd/3", "", "l"},
		{"a link at the place itself", "link l/x " + host + "; link l/secret " + host + "/secret", "", "l"},
		{"a directory that becomes a link", "dir l", "dir l; link l " + host, "l"},
	}
	kinds := []string{
		"file %s/x evil mode=04777 own=7:7", "file %s/secret evil", "file %s/dir/x evil", "dir %s mode=0777 own=7:7", "dir %s/x", "dir %s/dir mode=0777",
		"link %s/x nowhere", "hard %s/x f", "char %s/x 1:3 mode=0666", "block %s/x 8:0", "fifo %s/x",
		"file %s/.wh.secret", "file %s/.wh.dir", "file %s/.wh..wh..opq",
		"hard h %s/secret", "file f evil; hard f %s/secret; file f evil",
	}
	n := 0
	for _, w := range ways {
		for _, k := range kinds {
			// Also in the two steps of chmod through a hard link (CVE-2021-32760).
			entry := fmt.Sprintf(k, w.path)
			what := w.name + ": " + entry
			src, img := imageOfText("file f 1; "+w.lower, w.own+";"+entry)
			n++
			dir := filepath.Join(work, fmt.Sprint("rootfs", n))
			_, err := Image(context.Background(), src, img, dir, Options{Form: Rootfs})
			untouched(t, what)
			if err != nil {
				if e := (*EntryError)(nil); !errors.As(err, &e) {
					t.Errorf("%s: %v names no entry", what, err)
				}
				continue
			}
			if got := list(t, dir); strings.Contains(got, "host bytes") {
				t.Errorf("%s: host bytes in the rootfs:\n%s", what, got)
			}
		}
	}
}

// TestRacerCannotLeadOut unpacks while another thread, which may do in the staging
// directory what it likes, swaps directories for links that lead out.
func TestRacerCannotLeadOut(t *testing.T) {
	needRoot(t)
	work := workDir(t)
	host, untouched := newVictim(t, work)
	var base, top strings.Builder
	for i := range 60 {
		fmt.Fprintf(&base, "dir a%d; dir a%d/dir; file a%d/secret old mode=0666\n", i%3, i%3, i%3)
		fmt.Fprintf(&base, "file a%d/dir/f%d x own=%d:7\n", i%3, i, i%2)
		fmt.Fprintf(&top, "file a%d/secret new mode=0777 own=7:7; file a%d/dir/g%d x; hard a%d/h%d a%d/secret; file a%d/.wh.dir; file b%d/x y\n", i%3, i%3, i, i%3, i, i%3, (i+1)%3, i)
	}
	parent, err := os.Open(work)
	must(err)
	defer parent.Close()
	var stop atomic.Bool
	var swaps int
	var wg sync.WaitGroup
	wg.Go(func() {
		for !stop.Load() {
			names, _ := parent.ReadDir(-1)
			_, _ = parent.Seek(0, 0)
			for _, n := range names {
				if !strings.HasPrefix(n.Name(), stagingPrefix) {
					continue
				}
				for _, tree := range []string{"tree", "1"} {
					at := filepath.Join(work, n.Name(), tree)
					for i := range 3 {
						a, evil := filepath.Join(at, fmt.Sprint("a", i)), filepath.Join(at, fmt.Sprint("evil", i))
						_ = os.Symlink(host, evil)
						if unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, evil, unix.RENAME_EXCHANGE) == nil {
							swaps++
							_ = unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, evil, unix.RENAME_EXCHANGE)
						}
					}
				}
			}
		}
	})
	end := func() {
		stop.Store(true)
		wg.Wait()
	}
	defer end() // before the directory is removed, also when the test fails
	rounds := number("PEEL_RACES", 150)
	if testing.Short() {
		rounds = 50
	}
	src, img := imageOfText(base.String(), top.String())
	for i := range rounds {
		dir := filepath.Join(work, fmt.Sprint("rootfs", i))
		_, _ = Image(context.Background(), src, img, dir, Options{Form: Rootfs}) // may fail, or be a mess
		untouched(t, fmt.Sprint("round ", i))
		for removeAt(unix.AT_FDCWD, dir) != nil { // the racer may still be adding to it
		}
	}
	end()
	t.Logf("%d swaps in %d rounds", swaps, rounds)
	if swaps == 0 {
		t.Error("the racer has swapped nothing: this says nothing")
	}
}

func TestStagingIsClosedToOthersWhateverTheUmask(t *testing.T) {
	defer unix.Umask(unix.Umask(0))
	work := workDir(t)
	src, img := imageOfText("file su x mode=04755")
	looked := false
	_, err := Image(context.Background(), src, img, filepath.Join(work, "b"), Options{Finish: func(bundle, rootfs *os.File) error {
		entries, err := os.ReadDir(work)
		if err != nil || len(entries) != 1 {
			return fmt.Errorf("beside DIR: %v, %v", entries, err)
		}
		info, err := entries[0].Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm() != 0o700 {
			return fmt.Errorf("%s has mode %o", info.Name(), info.Mode().Perm())
		}
		looked = true
		return nil
	}})
	if err != nil || !looked {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(work, "b")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the bundle: %v, %v", info.Mode(), err)
	}
}

// TestNothingCanBeExecuted: what cannot start a program cannot be made to start
// one of the image's (CVE-2026-41567).
func TestNothingCanBeExecuted(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Skipf("SKIPPED: needs the go command: %v", err)
	}
	for _, p := range strings.Fields(string(out)) {
		if p == "os/exec" || p == "plugin" || p == "os/user" {
			t.Errorf("unpack depends on %s", p)
		}
	}
}

func TestAttributesThatSteerOverlaysAreLeftOut(t *testing.T) {
	needRoot(t)
	work := workDir(t)
	src, img := imageOfText(
		"dir d x:trusted.overlay.opaque=y x:user.overlay.opaque=y; file f 1 x:trusted.overlay.redirect=/etc x:user.containers.override_stat=0:0:04755 x:trusted.fine=1; link l f x:trusted.overlay.origin=1")
	dir := filepath.Join(work, "rootfs")
	warn := warnings{}
	if _, err := Image(context.Background(), src, img, dir, Options{Form: Rootfs, Progress: warn.add}); err != nil {
		t.Fatal(err)
	}
	if got, want := list(t, dir), lines("dir d; file f 1 x:trusted.fine=1; link l f"); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if len(warn.texts) != 1 || !strings.HasPrefix(warn.texts[0], "5 extended attributes left out") {
		t.Errorf("warnings: %q", warn.texts)
	}
	_, err := Image(context.Background(), src, img, filepath.Join(work, "strict"), Options{Form: Rootfs, Strict: true})
	if e := (*EntryError)(nil); !errors.As(err, &e) || e.Name != "d/" {
		t.Errorf("strict: %v", err)
	}
}
