package changes

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tree makes a directory of words: "dir/", "file", "file:rw" with content,
// "link->target", "gone!" a whiteout, "dir/*" opaque.
func tree(t *testing.T, words string) *os.File {
	t.Helper()
	root := t.TempDir()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	all := strings.Fields(words)
	for _, word := range all {
		name, target, isLink := strings.Cut(word, "->")
		name = filepath.Join(root, strings.TrimRight(name, "!*"))
		check(os.MkdirAll(filepath.Dir(name), 0o755))
		switch {
		case isLink:
			check(os.Symlink(target, name))
		case strings.HasSuffix(word, "!"):
			check(unix.Mknod(name, unix.S_IFCHR, 0))
		case strings.HasSuffix(word, "/*"):
			check(os.MkdirAll(name, 0o755))
			check(unix.Setxattr(name, "trusted.overlay.opaque", []byte("y"), 0))
		case strings.HasSuffix(word, "/"):
			check(os.MkdirAll(name, 0o755))
		case strings.HasSuffix(word, ":rw"):
			check(os.WriteFile(strings.TrimSuffix(name, ":rw"), []byte("x"), 0o600))
		default:
			check(os.WriteFile(name, nil, 0o644))
		}
	}
	// A directory's time is the one it was copied up with, until something is done in it.
	for _, word := range all {
		word, _, _ = strings.Cut(word, "->")
		for dir := filepath.Dir(word); dir != "."; dir = filepath.Dir(dir) {
			check(os.Chtimes(filepath.Join(root, dir), time.Unix(1e9, 0), time.Unix(1e9, 0)))
		}
		if strings.HasSuffix(word, "/") {
			check(os.Chtimes(filepath.Join(root, word), time.Unix(1e9, 0), time.Unix(1e9, 0)))
		}
	}
	f, err := os.Open(root)
	check(err)
	t.Cleanup(func() { f.Close() })
	return f
}

func TestOverlay(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: whiteouts and trusted attributes need root")
	}
	for name, test := range map[string]struct{ lower, upper, want string }{
		"nothing":                                     {"etc/passwd", "", ""},
		"added":                                       {"etc/passwd", "etc/new", "C /etc, A /etc/new"},
		"changed":                                     {"etc/passwd", "etc/passwd:rw", "C /etc, C /etc/passwd"},
		"deleted":                                     {"etc/passwd etc/x/y", "etc/passwd! etc/x!", "C /etc, D /etc/passwd, D /etc/x"},
		"deleted before it was known":                 {"etc/", "etc/gone!", ""},
		"a directory with all in it":                  {"", "a/b/c", "A /a, A /a/b, A /a/b/c"},
		"a directory only opened up":                  {"a/b/c", "a/b/", ""},
		"a directory in place of one":                 {"a/old a/kept a/d/e", "a/* a/kept a/d/ a/new", "C /a, C /a/d, D /a/d/e, C /a/kept, A /a/new, D /a/old"},
		"a file in place of a directory":              {"a/b", "a", "C /a"},
		"a directory in place of a file":              {"a", "a/b", "C /a, A /a/b"},
		"a link in place of a file":                   {"a", "a->/etc/passwd", "C /a"},
		"sorted by whole paths":                       {"", "a/x a-b", "A /a, A /a-b, A /a/x"},
		"what was made to mount on is no change":      {"etc/passwd", "etc/hosts proc/ dev/ etc/hostname", ""},
		"nor the directory that it took":              {"usr/", "etc/hosts", ""},
		"but what somebody has put there is":          {"etc/", "etc/hosts:rw proc/x", "C /etc, A /etc/hosts, A /proc, A /proc/x"},
		"whiteouts of what a directory once replaced": {"a/", "a/* a/b!", ""},
	} {
		lower, upper := tree(t, test.lower), tree(t, test.upper)
		hidden := map[string]bool{"/etc/hosts": true, "/etc/hostname": true, "/proc": true, "/dev": true}
		got, err := Overlay(t.Context(), upper, lower, hidden)
		var words []string
		for _, c := range got {
			words = append(words, string(c.Kind)+" "+c.Path)
		}
		if s := strings.Join(words, ", "); s != test.want || err != nil {
			t.Errorf("%s: got %s, want %s (%v)", name, s, test.want, err)
		}
	}
}

func TestADirectorysOwnAttributesAreAChange(t *testing.T) {
	lower, upper := tree(t, "a/"), tree(t, "a/")
	if err := os.Chmod(filepath.Join(upper.Name(), "a"), 0o700); err != nil {
		t.Fatal(err)
	}
	got, err := Overlay(t.Context(), upper, lower, nil)
	if err != nil || len(got) != 1 || got[0] != (Change{Changed, "/a"}) {
		t.Errorf("got %v, %v: want C /a", got, err)
	}
}
