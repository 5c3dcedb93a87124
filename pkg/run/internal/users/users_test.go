package users

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"peel/pkg/run/internal/inroot"
)

// lookup resolves spec in a root with these files; an empty text is no file.
func lookup(t *testing.T, passwd, group, spec string) (User, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"passwd": passwd, "group": group} {
		if text == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, "etc", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	fds := [2]int{}
	for i, p := range []string{dir, "/proc"} {
		fd, err := unix.Open(p, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		fds[i] = fd
	}
	return Lookup(inroot.Root(fds[0]), fds[1], spec)
}

const (
	passwd = "# comment\nroot:x:0:0:root:/root:/bin/sh\n\nbroken\nweb:x:33:34::/var/www:/bin/false\n7:x:70:70::/seven:\ntoolarge:x:2147483648:0::/:\n"
	group  = "root:x:0:\nweb:x:34:\nadm:x:4:x,web\nlp:x:7:web,web\nadm2:x:4:web\nothers:x:9:web2,aweb\nbad:x:-5:web\n"
)

func TestUserStrings(t *testing.T) {
	for _, c := range []struct {
		spec string
		want User
	}{
		{"", User{0, 0, []uint32{0}, "/root"}},
		{"root", User{0, 0, []uint32{0}, "/root"}},
		{"web", User{33, 34, []uint32{34, 4, 7}, "/var/www"}},
		{"33", User{33, 34, []uint32{34, 4, 7}, "/var/www"}},
		{"web:adm", User{33, 4, []uint32{4}, "/var/www"}},
		{"web:12", User{33, 12, []uint32{12}, "/var/www"}},
		{"1000", User{1000, 0, []uint32{0}, ""}},
		{"1000:1000", User{1000, 1000, []uint32{1000}, ""}},
		{"7", User{7, 0, []uint32{0}, ""}}, // an id, though there is a user of that name
		{"2147483647", User{2147483647, 0, []uint32{0}, ""}},
	} {
		got, err := lookup(t, passwd, group, c.spec)
		if err != nil || got.UID != c.want.UID || got.GID != c.want.GID || got.Home != c.want.Home || !slices.Equal(got.Groups, c.want.Groups) {
			t.Errorf("%q: got %+v, %v; want %+v", c.spec, got, err, c.want)
		}
	}
}

func TestAmbiguousUserStringsAreRefused(t *testing.T) {
	for _, spec := range []string{":", "web:", ":34", "web:adm:x", "2147483648", "4294967295", "4294967296", "99999999999999999999", "00", "007", "web:2147483648", "web:00", "web\nroot", "a,b"} {
		var syntax *SyntaxError
		if u, err := lookup(t, passwd, group, spec); !errors.As(err, &syntax) {
			t.Errorf("%q: got %+v, %v; want a SyntaxError", spec, u, err)
		}
	}
	for _, spec := range []string{"nobody", "-1", "+0", "0x0", " 0", "toolarge", "broken", "web:none", "web:bad"} {
		var notFound *NotFoundError
		if u, err := lookup(t, passwd, group, spec); !errors.As(err, &notFound) {
			t.Errorf("%q: got %+v, %v; want a NotFoundError", spec, u, err)
		}
	}
}

func TestIDsNeedNoFiles(t *testing.T) {
	if u, err := lookup(t, "", "", "5:6"); err != nil || u.UID != 5 || u.GID != 6 {
		t.Errorf("got %+v, %v", u, err)
	}
	if _, err := lookup(t, "", "", "web"); err == nil {
		t.Error("a name was found without a passwd")
	}
}

func TestMoreGroupsThanAProcessCanHaveAreRefused(t *testing.T) {
	var b strings.Builder
	for i := range maxGroups + 5 {
		b.WriteString("g:x:" + itoa(i+100) + ":web\n")
	}
	if _, err := lookup(t, passwd, b.String(), "web"); err == nil {
		t.Error("accepted")
	}
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + string(rune('0'+n%10))
}

// FuzzParse: no text makes the parser panic, loop or return what a passwd or
// group line cannot hold.
func FuzzParse(f *testing.F) {
	for _, s := range []string{passwd, group, "", ":", "::::::\n", "a:b:c", "\x00:\x00", "x:x:0:0:::\r\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		err := parse(strings.NewReader(text), func(fields []string) {
			if len(fields) == 0 || slices.ContainsFunc(fields, func(f string) bool { return strings.ContainsAny(f, ":\n") }) {
				t.Errorf("fields %q", fields)
			}
		})
		if err != nil && len(text) < maxLine {
			t.Errorf("%q: %v", text, err)
		}
	})
}
