package users

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"peel/internal/beneath"
)

const passwd = `# comment
root:x:0:0:root:/root:/bin/sh

daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
nginx:x:101:101:nginx user,,,:/var/cache/nginx:/bin/false
1337:x:7:7::/home/1337:/bin/sh
twin:x:500:500::/home/first:/bin/sh
twin:x:501:501::/home/second:/bin/sh
bad:x:zero:0::/root:/bin/sh
huge:x:4294967296:0::/root:/bin/sh
top:x:2147483647:2147483647::/:/bin/sh
short:x:0
+nis::::::
`

const group = `root:x:0:root,daemon
daemon:x:1:
www:x:33:nginx,twin
tape:x:26:root,nginx
more:x:33:nginx
nginx:x:101:nginx
badgid:x:x1:nginx
hugegid:x:4294967296:nginx
9:x:12:
`

// rootfs makes a root with the files given, and opens it.
func rootfs(t *testing.T, files map[string]string) *os.File {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return open(t, dir)
}

func lookup(root *os.File, user string) (User, error) { return Lookup(beneath.New(root), user) }

func open(t *testing.T, dir string) *os.File {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestLookup(t *testing.T) {
	root := rootfs(t, map[string]string{"etc/passwd": passwd, "etc/group": group})
	empty := rootfs(t, nil)
	for _, c := range []struct {
		claim, user string
		root        *os.File
		want        string // uid:gid groups home
	}{
		{"no user is root, with the groups that list root", "", root, "0:0 [0 26] /root"},
		{"a name has its id, group and home, and the groups that list it, each once", "nginx", root, "101:101 [101 33 26] /var/cache/nginx"},
		{"an id has the same, by its entry", "101", root, "101:101 [101 33 26] /var/cache/nginx"},
		{"an id without an entry is itself, in group 0, without a home", "4711", root, "4711:0 [0] "},
		{"a named group is the only one", "nginx:www", root, "101:33 [33] /var/cache/nginx"},
		{"so is a numbered one, which needs no entry", "nginx:4711", root, "101:4711 [4711] /var/cache/nginx"},
		{"an id and a name of a group", "4711:daemon", root, "4711:1 [1] "},
		{"two ids", "1:2", root, "1:2 [2] /usr/sbin"},
		{"digits are an id, even where they are somebody's name", "1337", root, "1337:0 [0] "},
		{"so are a group's", "1:9", root, "1:9 [9] /usr/sbin"},
		{"the first of two entries counts", "twin", root, "500:500 [500 33] /home/first"},
		{"the largest id", "2147483647", root, "2147483647:2147483647 [2147483647] /"},
		{"no files, no user", "", empty, "0:0 [0] "},
		{"no files, an id", "12:34", empty, "12:34 [34] "},
	} {
		t.Run(c.claim, func(t *testing.T) {
			u, err := lookup(c.root, c.user)
			if got := fmt.Sprintf("%d:%d %d %s", u.UID, u.GID, u.Groups, u.Home); err != nil || got != c.want {
				t.Errorf("%s, %v, want %s", got, err, c.want)
			}
		})
	}
}

func TestStringsOfTwoReadingsAreRefused(t *testing.T) {
	// Names that would be found, were they looked for.
	root := rootfs(t, map[string]string{
		"etc/passwd": "root:x:0:0:::\n+0:x:0:0:::\n-1:x:0:0:::\n:x:0:0:::\na b:x:0:0:::\n007:x:0:0:::\n",
		"etc/group":  "root:x:0:\n+0:x:0:\n:x:0:\n",
	})
	for _, user := range []string{
		"4294967296", "4294967295", "2147483648", "-1", "+0", "-0", "00", "007", "99999999999999999999",
		"1:4294967296", "1:2147483648", "1:+0", "1:-1", "1:01",
		":", ":1000", "1000:", "1:2:3", "root:root:root", "1,2", "a b", " 0", "0 ", "0\n", "root\x00", "\t",
	} {
		u, err := lookup(root, user)
		if e := (*SyntaxError)(nil); !errors.As(err, &e) {
			t.Errorf("%q is %+v, %v", user, u, err)
		}
	}
}

func TestNamesThatTheImageDoesNotHave(t *testing.T) {
	root := rootfs(t, map[string]string{"etc/passwd": passwd, "etc/group": group})
	for user, file := range map[string]string{
		"nobody": "/etc/passwd", "0x0": "/etc/passwd", "1e3": "/etc/passwd", "٣": "/etc/passwd", "Root": "/etc/passwd",
		"bad": "/etc/passwd", "huge": "/etc/passwd", "short": "/etc/passwd", "#": "/etc/passwd",
		"nginx:nobody": "/etc/group", "1:badgid": "/etc/group", "1:hugegid": "/etc/group", "1:0x1": "/etc/group",
	} {
		u, err := lookup(root, user)
		if e := (*UnknownError)(nil); !errors.As(err, &e) || e.File != file {
			t.Errorf("%q is %+v, %v", user, u, err)
		}
	}
}

func TestFilesThatAreNotRead(t *testing.T) {
	big := strings.Repeat("x", maxFile)
	for _, c := range []struct {
		claim string
		make  func(path string) error
	}{
		{"a directory", func(p string) error { return os.Mkdir(p, 0o755) }},
		{"a FIFO, which must not be waited for", func(p string) error { return unix.Mkfifo(p, 0o644) }},
		{"a link to a FIFO", func(p string) error {
			return errors.Join(unix.Mkfifo(p+"-", 0o644), os.Symlink(filepath.Base(p)+"-", p))
		}},
		{"a socket", func(p string) error { return unix.Mknod(p, unix.S_IFSOCK|0o644, 0) }},
		{"a device", func(p string) error { return unix.Mknod(p, unix.S_IFCHR|0o644, int(unix.Mkdev(1, 5))) }},
		{"a link to itself", func(p string) error { return os.Symlink(filepath.Base(p), p) }},
		{"a file of more than 16 MiB", func(p string) error { return os.WriteFile(p, []byte(big+"x"), 0o644) }},
		{"a sparse file of 2 GiB", func(p string) error {
			return errors.Join(os.WriteFile(p, nil, 0o644), os.Truncate(p, 2<<30))
		}},
		{"a line of more than 1 MiB", func(p string) error { return os.WriteFile(p, []byte(big[:maxLine+1]), 0o644) }},
	} {
		for _, name := range []string{"passwd", "group"} {
			t.Run(c.claim+" for "+name, func(t *testing.T) {
				root := rootfs(t, map[string]string{"etc/hosts": ""})
				path := filepath.Join(root.Name(), "etc", name)
				if err := c.make(path); errors.Is(err, unix.EPERM) {
					t.Skip("SKIP: no right to make device nodes")
				} else if err != nil {
					t.Fatal(err)
				}
				// root is in passwd, so that the group file is looked at too.
				if name == "group" {
					if err := os.WriteFile(filepath.Join(root.Name(), "etc/passwd"), []byte("root:x:0:0:::\n"), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				if u, err := lookup(root, ""); err == nil {
					t.Errorf("%+v", u)
				}
			})
		}
	}
}

func TestLinksStayInTheRoot(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "passwd"), []byte("evil:x:0:0::/outside:\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{filepath.Join(outside, "passwd"), "../../../../../../../.." + filepath.Join(outside, "passwd"), "/proc/self/root" + filepath.Join(outside, "passwd")} {
		root := rootfs(t, map[string]string{"etc/hosts": ""})
		if err := os.Symlink(target, filepath.Join(root.Name(), "etc/passwd")); err != nil {
			t.Fatal(err)
		}
		if u, err := lookup(root, "evil"); err == nil {
			t.Errorf("%s: %+v", target, u)
		}
	}
	root := rootfs(t, map[string]string{"usr/share/passwd": "joe:x:5:6::/home/joe:\n", "etc/hosts": ""})
	if err := os.Symlink("/usr/share/passwd", filepath.Join(root.Name(), "etc/passwd")); err != nil {
		t.Fatal(err)
	}
	u, err := lookup(root, "joe")
	if want := (User{5, 6, []uint32{6}, "/home/joe"}); err != nil || !reflect.DeepEqual(u, want) {
		t.Errorf("an absolute link within: %+v, %v", u, err)
	}
}

func TestMoreGroupsThanAProcessCanHave(t *testing.T) {
	var s strings.Builder
	for i := range maxGroups + 1 {
		fmt.Fprintf(&s, "g%d:x:%d:joe\n", i, i+10)
	}
	root := rootfs(t, map[string]string{"etc/passwd": "joe:x:5:5::/:\n", "etc/group": s.String()})
	if u, err := lookup(root, "joe"); err == nil {
		t.Errorf("%d groups", len(u.Groups))
	}
}

// FuzzLookup reads hostile strings and files. What comes out is in range, and root
// only where the string or the file says 0.
func FuzzLookup(f *testing.F) {
	for _, user := range []string{"", "nginx", "nginx:www", "101:33", "1337", "+0", "bad"} {
		f.Add(user, passwd, group)
	}
	dir := f.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "etc"), 0o755); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, user, passwd, group string) {
		for name, content := range map[string]string{"passwd": passwd, "group": group} {
			if err := os.WriteFile(filepath.Join(dir, "etc", name), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		u, err := lookup(open(t, dir), user)
		if err != nil {
			return
		}
		name, _, _ := strings.Cut(user, ":")
		if u.UID > maxID || u.GID > maxID || len(u.Groups) == 0 || u.Groups[0] != u.GID {
			t.Fatalf("%+v", u)
		}
		if u.UID == 0 && name != "" && name != "0" && !strings.Contains(passwd, name+":") {
			t.Fatalf("%q is root by %q", user, passwd)
		}
	})
}

func TestErrorsAreShortWhateverTheImageHolds(t *testing.T) {
	for name, long := range map[string]string{
		"a name": strings.Repeat("x", 1<<20), "a number": strings.Repeat("9", 1<<20), "two colons": "a:b:" + strings.Repeat("\x1b", 1<<20),
	} {
		_, err := lookup(rootfs(t, nil), long)
		if err == nil || len(err.Error()) > 1000 || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%s: %.200q", name, fmt.Sprint(err))
		}
	}
}

func TestFileTooLargeIsNotReadInPart(t *testing.T) {
	root := rootfs(t, map[string]string{"etc/passwd": "nginx:x:101:101::/:/bin/false\n"})
	if err := os.Truncate(filepath.Join(root.Name(), "etc/passwd"), maxFile+1); err != nil {
		t.Fatal(err)
	}
	var file *FileError
	if _, err := lookup(root, "nginx"); !errors.As(err, &file) || file.File != "/etc/passwd" {
		t.Fatalf("%v, want a FileError", err)
	}
}
