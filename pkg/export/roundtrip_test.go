package export

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// describe looks at a tree the plain way, by path, and says all about it, a file
// a line.
func describe(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	first := map[uint64]string{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		rel := path[len(dir)+1:]
		fmt.Fprintf(&b, "%q %o %d:%d %d.%09d", rel, st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %d bytes %x", len(data), sha256.Sum256(data))
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " -> %q", target)
		case unix.S_IFCHR, unix.S_IFBLK:
			fmt.Fprintf(&b, " device %d,%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
			if name, ok := first[st.Ino]; ok {
				fmt.Fprintf(&b, " is %q", name)
			} else {
				first[st.Ino] = rel
			}
		}
		names := make([]byte, 4096)
		n, err := unix.Llistxattr(path, names)
		if err != nil && err != unix.ENOTSUP {
			return err
		}
		list := strings.FieldsFunc(string(names[:max(n, 0)]), func(r rune) bool { return r == 0 })
		slices.Sort(list)
		for _, name := range list {
			value := make([]byte, 4096)
			n, err := unix.Lgetxattr(path, name, value)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %s=%q", name, value[:n])
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func firstDifference(got, want string) string {
	g, w := strings.SplitAfter(got, "\n"), strings.SplitAfter(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return "got\n" + g[i] + "want\n" + w[i]
		}
	}
	return fmt.Sprintf("got %d files, want %d", len(g), len(w))
}

// randomTree makes a tree of all that a file system can hold but sockets, its
// times after first.
func randomTree(t *testing.T, r *rand.Rand, first int64) string {
	t.Helper()
	dir := t.TempDir()
	dirs, files := []string{dir}, []string{}
	name := func() string {
		for {
			n := 1 + r.IntN(20)
			if r.IntN(5) == 0 {
				n = 90 + r.IntN(20)
			}
			b := make([]byte, n)
			for i := range b {
				b[i] = byte('a' + r.IntN(26))
				if r.IntN(30) == 0 {
					b[i] = byte(1 + r.IntN(255))
				}
				if b[i] == '/' {
					b[i] = ' '
				}
			}
			path := dirs[r.IntN(len(dirs))] + "/" + string(b)
			if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) && string(b) != "." && string(b) != ".." && len(path) < 2000 {
				return path
			}
		}
	}
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	all := []string{}
	for range 150 {
		path := name()
		mode := uint32(r.IntN(0o10000))
		switch r.IntN(8) {
		case 0, 1:
			must(os.Mkdir(path, 0o700))
			dirs = append(dirs, path)
		case 2, 3, 4:
			data := make([]byte, r.IntN(2)*r.IntN(700)+r.IntN(2)*r.IntN(300000))
			for i := range data {
				data[i] = byte(i) // cheap; what matters is where it begins and ends
			}
			must(os.WriteFile(path, data, 0o600))
			files = append(files, path)
		case 5:
			must(os.Symlink(filepath.Base(name())+"/../"+filepath.Base(name()), path))
		case 6:
			kind := []uint32{unix.S_IFIFO, unix.S_IFCHR, unix.S_IFBLK}[r.IntN(3)]
			dev := 0
			if kind != unix.S_IFIFO {
				dev = int(unix.Mkdev(uint32(1+r.IntN(4095)), uint32(r.IntN(1<<20))))
			}
			must(unix.Mknod(path, kind|0o600, dev))
		case 7:
			if len(files) == 0 {
				continue
			}
			must(os.Link(files[r.IntN(len(files))], path))
			continue // it has its attributes
		}
		all = append(all, path)
		must(os.Lchown(path, r.IntN(2)*r.IntN(1<<31), r.IntN(2)*r.IntN(1<<31)))
		st, err := os.Lstat(path)
		must(err)
		if st.Mode()&os.ModeSymlink == 0 {
			must(unix.Chmod(path, mode))
		}
		for range r.IntN(2) * r.IntN(3) {
			attr := "trusted.peel" + fmt.Sprint(r.IntN(9))
			if st.Mode().IsRegular() {
				attr = "user.peel" + fmt.Sprint(r.IntN(9))
			}
			value := make([]byte, 1+r.IntN(30))
			for i := range value {
				value[i] = byte(r.Uint32())
			}
			must(unix.Lsetxattr(path, attr, value, 0))
		}
	}
	for _, path := range slices.Backward(all) { // directories last: making files changed them
		ts := []unix.Timespec{{Sec: first + r.Int64N(4e9), Nsec: r.Int64N(2) * r.Int64N(1e9)}, {}}
		ts[1] = ts[0]
		must(unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, unix.AT_SYMLINK_NOFOLLOW))
	}
	return dir
}

// Others make the same tree of the archive, and that tree makes the same archive.
func TestRandomTreesSurviveOtherTars(t *testing.T) {
	needRoot(t)
	for _, tool := range []struct {
		is    string
		first int64 // the earliest time that it reads right, in seconds
		args  []string
	}{
		{"GNU tar", -1e9, []string{"tar", "-xp", "--numeric-owner", "--xattrs", "--xattrs-include=*",
			// It does not know hdrcharset, but does what that asks.
			"--warning=no-unknown-keyword", "--warning=no-timestamp"}},
		// libarchive takes the fraction of a time before 1970 for one that counts forward.
		{"bsdtar", 0, []string{"bsdtar", "-xp", "--numeric-owner", "-f", "-"}},
	} {
		t.Run(tool.is, func(t *testing.T) {
			if out, err := exec.Command(tool.args[0], "--version").Output(); err != nil || !bytes.Contains(out, []byte(tool.is)) {
				t.Skipf("needs %s: %v", tool.is, err)
			}
			for seed := range uint64(4) {
				dir := randomTree(t, rand.New(rand.NewPCG(seed, 0)), tool.first)
				archive, warnings := archiveOf(t, dir, Options{})
				if len(warnings) > 0 {
					t.Errorf("seed %d: warnings %q", seed, warnings)
				}
				other := t.TempDir()
				cmd := exec.Command(tool.args[0], tool.args[1:]...)
				cmd.Dir = other
				cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
				cmd.Stdin = bytes.NewReader(archive)
				if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
					t.Fatalf("seed %d: %v: %s", seed, err, out)
				}
				if got, want := describe(t, other), describe(t, dir); got != want {
					t.Fatalf("seed %d: %s", seed, firstDifference(got, want))
				}
				if again, _ := archiveOf(t, other, Options{}); !bytes.Equal(again, archive) {
					t.Errorf("seed %d: the same tree gives another archive", seed)
				}
			}
		})
	}
}

func TestArchiveHoldsNoNameThatLeadsOut(t *testing.T) {
	needRoot(t)
	for seed := range uint64(4) {
		archive, _ := archiveOf(t, randomTree(t, rand.New(rand.NewPCG(seed, 1)), 0), Options{})
		last := ""
		for h, err := range entries(archive) {
			if err != nil {
				t.Fatal(err)
			}
			for part := range strings.SplitSeq(strings.TrimSuffix(h.Name, "/"), "/") {
				if part == "" || part == "." || part == ".." {
					t.Errorf("entry %q", h.Name)
				}
			}
			// In order, where a slash comes before all other bytes.
			key := strings.ReplaceAll(strings.TrimSuffix(h.Name, "/"), "/", "\x00")
			if key <= last {
				t.Errorf("entry %q comes behind %q", h.Name, last)
			}
			last = key
		}
	}
}

func BenchmarkTree(b *testing.B) {
	dir := b.TempDir()
	for i := range 2000 {
		if err := os.WriteFile(fmt.Sprintf("%s/%d", dir, i), make([]byte, 40*i), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if err := exportTo(dir, writerFunc(func(p []byte) (int, error) { return len(p), nil }), Options{}); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(40 * 2000 * 1999 / 2)
	b.ReportMetric(float64(b.N)*2000/b.Elapsed().Seconds(), "files/s")
}
