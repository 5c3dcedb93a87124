package export

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"peel/pkg/progress"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == exportAsUser {
		os.Exit(exportMain(os.Args[2]))
	}
	goleak.VerifyTestMain(m)
}

// archiveOf exports dir and returns the archive and the warnings.
func archiveOf(t testing.TB, dir string, o Options) (archive []byte, warnings []string) {
	t.Helper()
	var b bytes.Buffer
	o.Progress = func(e progress.Event) { warnings = append(warnings, e.Message) }
	if err := exportTo(dir, &b, o); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), warnings
}

func exportTo(dir string, w io.Writer, o Options) error {
	root, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer root.Close()
	return Tree(context.Background(), root, w, o)
}

// list reads an archive with the standard library: an entry a line.
func list(t testing.TB, archive []byte) string {
	t.Helper()
	var b strings.Builder
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return b.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%c %04o %d:%d %s", h.Typeflag, h.Mode, h.Uid, h.Gid, h.Name)
		switch h.Typeflag {
		case tar.TypeLink, tar.TypeSymlink:
			fmt.Fprintf(&b, " -> %s", h.Linkname)
		case tar.TypeChar, tar.TypeBlock:
			fmt.Fprintf(&b, " %d,%d", h.Devmajor, h.Devminor)
		case tar.TypeReg:
			data, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			if len(data) > 20 {
				data = fmt.Appendf(nil, "%d bytes", len(data))
			}
			fmt.Fprintf(&b, " %q", data)
		}
		for _, key := range slices.Sorted(keys(h.PAXRecords)) {
			if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
				fmt.Fprintf(&b, " %s=%q", name, h.PAXRecords[key])
			}
		}
		b.WriteByte('\n')
	}
}

func keys(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func TestTree(t *testing.T) {
	for _, tc := range []struct {
		claim string
		steps []step
		o     Options
		want  string
		warns string // what one warning says; empty for none
	}{
		{
			claim: "an empty tree is an empty archive",
		},
		{
			claim: "entries are sorted, a directory before what it holds",
			steps: []step{file("b.d", 0o644, ""), mkdir("b", 0o755), file("b/z", 0o600, "z"), file("b/a", 0o600, "a"), file("a", 0o644, "")},
			want: `0 0644 0:0 a ""
5 0755 0:0 b/
0 0600 0:0 b/a "a"
0 0600 0:0 b/z "z"
0 0644 0:0 b.d ""
`,
		},
		{
			claim: "of the names of a file the first carries the data",
			steps: []step{file("z", 0o644, "data"), mkdir("d", 0o755), link("d/m", "z"), link("a", "z")},
			want: `0 0644 0:0 a "data"
5 0755 0:0 d/
1 0644 0:0 d/m -> a
1 0644 0:0 z -> a
`,
		},
		{
			claim: "a file whose other name lies outside is a file",
			steps: []step{file("../outside", 0o644, "data"), link("in", "../outside"), link("in2", "../outside")},
			want:  "0 0644 0:0 in \"data\"\n1 0644 0:0 in2 -> in\n",
		},
		{
			claim: "links, devices and fifos can have two names, too",
			steps: []step{symlink("l1", "gone"), link("l2", "l1"), node("p1", unix.S_IFIFO|0o600, 0, 0), link("p2", "p1"),
				node("c1", unix.S_IFCHR|0o666, 1, 3), link("c2", "c1")},
			want: `3 0666 0:0 c1 1,3
1 0666 0:0 c2 -> c1
2 0777 0:0 l1 -> gone
1 0777 0:0 l2 -> l1
6 0600 0:0 p1
1 0600 0:0 p2 -> p1
`,
		},
		{
			claim: "links are kept as they are, wherever they point",
			steps: []step{symlink("abs", "/etc/shadow"), symlink("up", "../../.."), symlink("dot", ".")},
			want: `2 0777 0:0 abs -> /etc/shadow
2 0777 0:0 dot -> .
2 0777 0:0 up -> ../../..
`,
		},
		{
			claim: "devices keep their numbers, files their set-id bits",
			steps: []step{node("sda", unix.S_IFBLK|0o660, 8, 1000), file("su", 0o4755, "x"), mkdir("tmp", 0o1777)},
			want: `4 0660 0:0 sda 8,1000
0 4755 0:0 su "x"
5 1777 0:0 tmp/
`,
		},
		{
			claim: "owners are kept, of links as well",
			steps: []step{file("f", 0o644, ""), symlink("l", "f"), mkdir("d", 0o755), own("f", 1000, 33), own("l", 7, 8), own("d", 3000000, 4e9)},
			want: `5 0755 3000000:4000000000 d/
0 0644 1000:33 f ""
2 0777 7:8 l -> f
`,
		},
		{
			claim: "attributes are kept, but those that are the host's",
			steps: []step{file("f", 0o644, ""), mkdir("d", 0o755), symlink("l", "f"),
				setxattr("f", "user.a", "1\x00\n="), setxattr("f", "trusted.b", ""), setxattr("f", "user.overlay.opaque", "y"),
				setxattr("f", "user.containers.override_stat", "1:2:0777"), setxattr("f", "trusted.overlay.origin", "x"),
				setxattr("d", "user.d", "dir"), setxattr("l", "trusted.l", "link")},
			want: `5 0755 0:0 d/ user.d="dir"
0 0644 0:0 f "" trusted.b="" user.a="1\x00\n="
2 0777 0:0 l -> f trusted.l="link"
`,
		},
		{
			claim: "an attribute that a record cannot name is missed aloud",
			steps: []step{file("f", 0o644, ""), setxattr("f", "user.a=b", "1"), setxattr("f", "user.c", "2")},
			want:  "0 0644 0:0 f \"\" user.c=\"2\"\n",
			warns: `"f": has an extended attribute whose name tar cannot keep`,
		},
		{
			claim: "sockets are left out aloud, once",
			steps: []step{node("a.sock", unix.S_IFSOCK|0o600, 0, 0), node("b.sock", unix.S_IFSOCK|0o600, 0, 0), file("f", 0o644, "")},
			want:  "0 0644 0:0 f \"\"\n",
			warns: `"a.sock": a socket, left out`,
		},
		{
			claim: "files are what override_stat says",
			o:     Options{Form: OverrideStat},
			steps: []step{file("f", 0o600, "data"), setxattr("f", overrideStat, "1000:33:04755"),
				file("sda", 0o600, ""), setxattr("sda", overrideStat, "0:6:0660:block-8-16"),
				file("tty", 0o600, ""), setxattr("tty", overrideStat, "0:5:0620:char-5-0"),
				file("p", 0o600, ""), setxattr("p", overrideStat, "1:2:0600:pipe"),
				mkdir("d", 0o700), setxattr("d", overrideStat, "5:6:040755:dir"),
				file("none", 0o640, ""), symlink("l", "f")},
			want: `5 0755 5:6 d/
0 4755 1000:33 f "data"
2 0777 0:0 l -> f
0 0640 0:0 none ""
6 0600 1:2 p
4 0660 0:6 sda 8,16
3 0620 0:5 tty 5,0
`,
		},
		{
			claim: "every name of a file says what its override_stat does",
			o:     Options{Form: OverrideStat},
			steps: []step{file("a", 0o600, "x"), setxattr("a", overrideStat, "0:42:0640:file"), link("b", "a"),
				file("c", 0o600, ""), setxattr("c", overrideStat, "0:5:0620:char-5-0"), link("d", "c")},
			want: `0 0640 0:42 a "x"
1 0640 0:42 b -> a
3 0620 0:5 c 5,0
1 0620 0:5 d -> c
`,
		},
		{
			claim: "a directory cannot claim to be a device",
			o:     Options{Form: OverrideStat},
			steps: []step{mkdir("d", 0o700), setxattr("d", overrideStat, "5:6:0755:block-8-0"), file("d/f", 0o600, "")},
			want: `5 0755 5:6 d/
0 0600 0:0 d/f ""
`,
		},
	} {
		t.Run(tc.claim, func(t *testing.T) {
			needRoot(t)
			archive, warnings := archiveOf(t, tree(t, tc.steps...), tc.o)
			if got := list(t, archive); got != tc.want {
				t.Errorf("got\n%swant\n%s", got, tc.want)
			}
			switch {
			case tc.warns == "" && len(warnings) > 0:
				t.Errorf("unexpected warnings %q", warnings)
			case tc.warns != "" && (len(warnings) != 1 || !strings.Contains(warnings[0], tc.warns)):
				t.Errorf("warnings %q, want one with %q", warnings, tc.warns)
			}
		})
	}
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: to own files of others and to make devices")
	}
}

func TestParseOverride(t *testing.T) {
	for _, tc := range []struct {
		value string
		want  override
		ok    bool
	}{
		{"0:0:0755", override{mode: 0o755}, true},
		{"1:2:0100644", override{uid: 1, gid: 2, mode: 0o644}, true},
		{"1:2:4755:file", override{uid: 1, gid: 2, mode: 0o4755}, true},
		{"1:2:0777:symlink", override{uid: 1, gid: 2, mode: 0o777}, true},
		{"4294967294:1:0:socket", override{uid: 4294967294, gid: 1}, true},
		{"0:0:600:pipe", override{mode: 0o600, typ: typeFifo}, true},
		{"0:6:660:block-8-16", override{gid: 6, mode: 0o660, typ: typeBlock, major: 8, minor: 16}, true},
		{"", override{}, false},
		{"1:2", override{}, false},
		{"1:2:0755:file:x", override{}, false},
		{"1:2:0899", override{}, false},
		{"-1:2:0755", override{}, false},
		{"4294967296:2:0755", override{}, false},
		{"1:2:0755:door", override{}, false},
		{"1:2:0755:file-1-2", override{}, false},
		{"1:2:0755:char", override{}, false},
		{"1:2:0755:char-1", override{}, false},
		{"1:2:0755:char-1-2-3", override{}, false},
		{"1:2:0755:char-4096-2", override{}, false},
	} {
		got, err := parseOverride([]byte(tc.value))
		if (err == nil) != tc.ok || tc.ok && got != tc.want {
			t.Errorf("%q: %+v, %v; want %+v, ok %v", tc.value, got, err, tc.want, tc.ok)
		}
	}
}

func FuzzParseOverride(f *testing.F) {
	for _, s := range []string{"0:0:0755", "1:2:0100644:file", "0:6:660:block-8-16", "1:2:600:pipe"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		o, err := parseOverride(value)
		if err == nil && (o.mode > 0o7777 || o.major > 4095 || o.minor >= 1<<20 || o.typ == 0 && o.major+o.minor != 0) {
			t.Errorf("%q: %+v", value, o)
		}
	})
}

func TestMalformedOverrideIsAnErrorThatNamesTheFile(t *testing.T) {
	dir := tree(t, mkdir("d", 0o755), file("d/f", 0o600, ""), setxattr("d/f", overrideStat, "root"))
	err := exportTo(dir, io.Discard, Options{Form: OverrideStat})
	var entry *EntryError
	if !errors.As(err, &entry) || entry.Name != "d/f" || !errors.Is(err, errOverride) {
		t.Errorf("got %v, want an EntryError for d/f", err)
	}
}

func TestSameTreeGivesSameBytes(t *testing.T) {
	steps := []step{file("a", 0o644, "a"), file("b", 0o600, "b"), mkdir("d", 0o755), mkdir("e", 0o700), symlink("l", "a"), file("zz", 0o4711, strings.Repeat("z", 3000))}
	one := tree(t, steps...)
	slices.Reverse(steps)
	other := tree(t, steps...)
	a, _ := archiveOf(t, one, Options{})
	b, _ := archiveOf(t, other, Options{})
	if !bytes.Equal(a, b) {
		t.Errorf("two archives:\n%s\n%s", list(t, a), list(t, b))
	}
	setTimes(t, other, 1e9+1)
	if b, _ = archiveOf(t, other, Options{}); bytes.Equal(a, b) {
		t.Error("a tree of another time gives the same archive")
	}
}

func TestSparseFileIsStoredWithoutItsHoles(t *testing.T) {
	const size = 16 << 20
	dir := t.TempDir()
	for name, data := range map[string]map[int64]string{
		"middle": {5 << 20: "middle"},
		"ends":   {0: "first", size - 4: "last"},
		"empty":  {},
	} {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		for off, text := range data {
			if _, err := f.WriteAt([]byte(text), off); err != nil {
				t.Fatal(err)
			}
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, "empty"), &st); err != nil || st.Blocks > 0 {
		t.Skipf("the file system of %s keeps no holes (%v)", dir, err)
	}
	archive, _ := archiveOf(t, dir, Options{})
	if len(archive) > 256<<10 {
		t.Errorf("the archive has %d bytes", len(archive))
	}
	r := tar.NewReader(bytes.NewReader(archive))
	for _, name := range []string{"empty", "ends", "middle"} {
		h, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if h.Name != name || !bytes.Equal(got, want) {
			t.Errorf("%s: read back as %s, %d bytes", name, h.Name, len(got))
		}
	}
}

func TestReadingLeavesNoTrace(t *testing.T) {
	dir := tree(t, file("f", 0o644, "data"))
	past := []unix.Timespec{{Sec: 1}, {Sec: 2}} // older than the change: relatime would note a reading
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, dir+"/f", past, 0); err != nil {
		t.Fatal(err)
	}
	archiveOf(t, dir, Options{})
	var st unix.Stat_t
	if err := unix.Stat(dir+"/f", &st); err != nil {
		t.Fatal(err)
	}
	if st.Atim.Sec != 1 {
		t.Errorf("access time is %v now", time.Unix(st.Atim.Sec, 0))
	}
}
