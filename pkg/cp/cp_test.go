package cp

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"peel/internal/beneath"
	"peel/pkg/progress"
)

func TestMain(m *testing.M) {
	unix.Umask(0)
	goleak.VerifyTestMain(m)
}

// tree makes a directory of words: "dir/", "file=content", "link->target".
func tree(t testing.TB, words string) string {
	t.Helper()
	root := t.TempDir()
	for _, word := range strings.Fields(words) {
		var err error
		if name, target, ok := strings.Cut(word, "->"); ok {
			err = errors.Join(os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o755), os.Symlink(target, filepath.Join(root, name)))
		} else if name, content, ok := strings.Cut(word, "="); ok {
			err = errors.Join(os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o755), os.WriteFile(filepath.Join(root, name), []byte(content), 0o644))
		} else {
			err = os.MkdirAll(filepath.Join(root, word), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// words is the reverse of tree, sorted; a directory is named if it is empty.
func words(t testing.TB, root string) string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(p, root+"/")
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			all = append(all, name+"->"+target)
			return err
		case d.IsDir():
			if list, err := os.ReadDir(p); err != nil || len(list) > 0 || p == root {
				return err
			}
			all = append(all, name+"/")
		case d.Type().IsRegular():
			b, err := os.ReadFile(p)
			all = append(all, name+"="+string(b))
			return err
		default:
			all = append(all, name+"?")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func place(t testing.TB, root, path string) Place {
	t.Helper()
	d, err := beneath.OpenDir(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return Place{d, path}
}

// The rules of docker's documentation of cp, one by one.
func TestWhereACopyGoes(t *testing.T) {
	const src = "f=new d/a=1 d/sub/b=2 lf->f ld->d abs->/d up->../../../../d gone->nowhere"
	for claim, test := range map[string]struct {
		from, to string
		there    string
		want     string // or the error
	}{
		"a file to a name that is not there":                {"f", "x", "", "x=new"},
		"a file over a file":                                {"f", "x", "x=old", "x=new"},
		"a file into a directory":                           {"f", "x", "x/y=1", "x/f=new x/y=1"},
		"a file into a directory by its slash":              {"f", "x/", "x/", "x/f=new"},
		"a file over one in a directory":                    {"f", "x", "x/f=old", "x/f=new"},
		"a file into a directory that is not there":         {"f", "x/", "", "!no such directory"},
		"a file below a directory that is not there":        {"f", "x/y", "", "!no such directory"},
		"a file to a file with a slash":                     {"f", "x/", "x=old", "!not a directory"},
		"a file where a directory has its name":             {"f", "x", "x/f/y=1", "!cannot overwrite a directory"},
		"a file with a slash":                               {"f/", "x", "", "!not a directory"},
		"a file that is not there":                          {"nothing", "x", "", "!no such file"},
		"a directory to a name that is not there":           {"d", "x", "", "x/a=1 x/sub/b=2"},
		"a directory to a name that is not there, by slash": {"d", "x/", "", "x/a=1 x/sub/b=2"},
		"a directory into a directory":                      {"d", "x", "x/", "x/d/a=1 x/d/sub/b=2"},
		"a directory over a file":                           {"d", "x", "x=old", "!cannot overwrite what is there with a directory"},
		"a directory into one that has it":                  {"d", "x", "x/d/a=old x/d/c=3", "x/d/a=1 x/d/c=3 x/d/sub/b=2"},
		"a directory where a file has its name":             {"d", "x", "x/d=old", "!cannot overwrite what is there with a directory"},
		"a directory where one of its files is one":         {"d", "x", "x/d/a/y=1", "!cannot overwrite a directory"},
		"the content of a directory":                        {"d/.", "x", "x/c=3", "x/a=1 x/c=3 x/sub/b=2"},
		"the content to a name that is not there":           {"d/.", "x", "", "x/a=1 x/sub/b=2"},
		"the content over a file":                           {"d/.", "x", "x=old", "!cannot overwrite what is there with a directory"},
		"all of it":                                         {"/", "x", "", "x/abs->/d x/d/a=1 x/d/sub/b=2 x/f=new x/gone->nowhere x/ld->d x/lf->f x/up->../../../../d"},
		"a link as itself":                                  {"lf", "x", "", "x->f"},
		"a link that leads nowhere":                         {"gone", "x", "", "x->nowhere"},
		"a link to a directory by its slash":                {"ld/", "x", "", "x/a=1 x/sub/b=2"},
		"what is behind a link":                             {"ld/a", "x", "", "x=1"},
		"what is behind a link from the root":               {"abs/a", "x", "", "x=1"},
		"what is behind a link that goes far up":            {"up/a", "x", "", "x=1"},
		"through a link at the destination":                 {"f", "l", "l->x x=old", "l->x x=new"},
		"through a link to a directory":                     {"f", "l", "l->x x/", "l->x x/f=new"},
		"through a link to what is not there":               {"f", "l", "l->x", "l->x x=new"},
		"through links, up and from the root":               {"f", "a/l", "a/l->../b/m b/m->/c/n c/", "a/l->../b/m b/m->/c/n c/n=new"},
		"through a link that leads far up":                  {"f", "l", "l->../../../../x", "l->../../../../x x=new"},
		"through a link that leads to itself":               {"f", "l", "l->l", "!too many levels"},
		"dots are taken away by the letter":                 {"d/sub/../../f", "x/../y", "", "y=new"},
	} {
		t.Run(claim, func(t *testing.T) {
			to := tree(t, test.there)
			_, err := Copy(t.Context(), place(t, tree(t, src), test.from), place(t, to, test.to), Options{})
			if want, fails := strings.CutPrefix(test.want, "!"); fails {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Fatalf("got %v, want an error that says %q; there is %s", err, want, words(t, to))
				}
				if strings.Contains(words(t, to), ".peel-cp-") {
					t.Errorf("left behind: %s", words(t, to))
				}
			} else if got := words(t, to); got != test.want || err != nil {
				t.Errorf("got  %s\nwant %s (%v)", got, test.want, err)
			}
		})
	}
}

func TestALinkIsFollowedOnRequest(t *testing.T) {
	from := tree(t, "d/a=1 ld->d lf->d/a")
	for name, want := range map[string]string{"ld": "x/a=1", "lf": "x=1"} {
		to := tree(t, "")
		if _, err := Copy(t.Context(), place(t, from, name), place(t, to, "x"), Options{FollowLink: true}); err != nil || words(t, to) != want {
			t.Errorf("%s: got %s, want %s (%v)", name, words(t, to), want, err)
		}
	}
}

func TestWhatACopyKeeps(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: to give files away needs root")
	}
	from := tree(t, "d/suid=x d/plain=y")
	old := time.Unix(1e9, 5000)
	for _, step := range []error{
		os.Chown(from+"/d/suid", 7, 8), os.Chmod(from+"/d/suid", 0o755|fs.ModeSetuid), os.Chtimes(from+"/d/suid", old, old),
		unix.Setxattr(from+"/d/suid", "security.capability", []byte("\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0),
		os.Link(from+"/d/suid", from+"/d/two"), unix.Mkfifo(from+"/d/pipe", 0o640), unix.Mknod(from+"/d/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))),
		os.Chmod(from+"/d", 0o555), os.Chtimes(from+"/d", old, old),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	describe := func(name string) string {
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			return err.Error()
		}
		n, _ := unix.Getxattr(name, "security.capability", make([]byte, 64))
		return fmt.Sprintf("%o %d:%d %d xattr %d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec, max(n, 0))
	}
	for claim, test := range map[string]struct {
		o                       Options
		suid, dir, pipe, device string
		warns                   int
	}{
		"the caller's, without privileges": {Options{}, "100755 0:0 1000000000 xattr 0", "40555 0:0 1000000000 xattr 0", "10640 0:0", "no such file", 1},
		"as it was":                        {Options{Privileges: true, Devices: true, Owner: func(u, g int) (int, int) { return u, g }}, "104755 7:8 1000000000 xattr 20", "40555 0:0 1000000000 xattr 0", "10640 0:0", "20666 0:0", 0},
		"somebody else's":                  {Options{Owner: func(u, g int) (int, int) { return 100 + u, 200 + g }}, "100755 107:208 1000000000 xattr 0", "40555 100:200 1000000000 xattr 0", "10640 100:200", "no such file", 1},
	} {
		to := tree(t, "")
		warnings := 0
		test.o.Progress = func(progress.Event) { warnings++ }
		copied, err := Copy(t.Context(), place(t, from, "d"), place(t, to, "x"), test.o)
		if err != nil {
			t.Errorf("%s: %v", claim, err)
		}
		for name, want := range map[string]string{"x/suid": test.suid, "x/two": test.suid, "x": test.dir, "x/pipe": test.pipe, "x/null": test.device} {
			if got := describe(filepath.Join(to, name)); !strings.HasPrefix(got, want) {
				t.Errorf("%s: %s is %s, want %s", claim, name, got, want)
			}
		}
		a, _ := os.Stat(to + "/x/suid")
		if b, _ := os.Stat(to + "/x/two"); !os.SameFile(a, b) {
			t.Errorf("%s: one file with two names has become two", claim)
		}
		if warnings != test.warns || copied.Bytes != 2 {
			t.Errorf("%s: %d warnings, want %d; %d bytes, want 2", claim, warnings, test.warns, copied.Bytes)
		}
	}
}

func TestAFileOfHolesFillsNoDisk(t *testing.T) {
	from, to := tree(t, "f=x"), tree(t, "")
	const size = 64 << 20
	if err := os.Truncate(from+"/f", size); err != nil {
		t.Fatal(err)
	}
	if _, err := Copy(t.Context(), place(t, from, "f"), place(t, to, "f"), Options{}); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(to+"/f", &st); err != nil || st.Size != size || st.Blocks*512 > 1<<20 {
		t.Errorf("%d bytes in %d blocks, %v", st.Size, st.Blocks, err)
	}
}

func TestPackAndUnpack(t *testing.T) {
	from := tree(t, "d/a=1 d/sub/b=2 f=x")
	for name, want := range map[string]string{"d": "x/d/a=1 x/d/sub/b=2", "d/.": "x/a=1 x/sub/b=2", "f": "x/f=x"} {
		var archive bytes.Buffer
		if err := Pack(t.Context(), place(t, from, name), &archive, Options{}); err != nil {
			t.Fatal(err)
		}
		to := tree(t, "x/")
		if _, err := Unpack(t.Context(), &archive, place(t, to, "x"), Options{}); err != nil || words(t, to) != want {
			t.Errorf("%s: got %s, want %s (%v)", name, words(t, to), want, err)
		}
	}
}

func archive(t testing.TB, headers ...*tar.Header) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		content := h.Uname
		h.Uname, h.Size = "", int64(len(content))
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func TestUnpackOfStrangeArchives(t *testing.T) {
	file := func(name string) *tar.Header {
		return &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Uname: "new"}
	}
	link := func(name, to string) *tar.Header {
		return &tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeSymlink}
	}
	for claim, test := range map[string]struct {
		entries []*tar.Header
		to      string
		there   string
		want    string // of the whole root, or the error
	}{
		"directories that are not named are made":  {[]*tar.Header{file("a/b/c")}, "x", "x/", "x/a/b/c=new"},
		"a link that was there is followed inside": {[]*tar.Header{file("lib/c")}, "/", "lib->usr/lib usr/lib/", "lib->usr/lib usr/lib/c=new"},
		"one that leads up ends at the root":       {[]*tar.Header{file("l/c")}, "x", "x/l->../../../../etc etc/", "etc/c=new x/l->../../../../etc"},
		"also one that came along":                 {[]*tar.Header{link("l", "/etc"), file("l/c")}, "x", "x/ etc/", "etc/c=new x/l->/etc"},
		"a name from the root is below the place":  {[]*tar.Header{file("/a")}, "x", "x/", "x/a=new"},
		"a name that leads up is refused":          {[]*tar.Header{file("a/../../b")}, "x", "x/", "!leads out"},
		"a hard link that leads up is refused":     {[]*tar.Header{{Name: "a", Linkname: "../b", Typeflag: tar.TypeLink}}, "x", "x/ b=1", "!leads out"},
		"a hard link to what is not there":         {[]*tar.Header{{Name: "a", Linkname: "b", Typeflag: tar.TypeLink}}, "x", "x/", "!no such file"},
		"a hard link to a link is one to the link": {[]*tar.Header{link("l", "/etc/f"), {Name: "a", Linkname: "l", Typeflag: tar.TypeLink}}, "x", "x/ etc/f=1", "etc/f=1 x/a->/etc/f x/l->/etc/f"},
		"a hard link over the same file":           {[]*tar.Header{file("a"), {Name: "b", Linkname: "a", Typeflag: tar.TypeLink}, {Name: "b", Linkname: "a", Typeflag: tar.TypeLink}}, "x", "x/", "x/a=new x/b=new"},
		"a link at the end of a name is replaced":  {[]*tar.Header{file("l")}, "x", "x/l->/etc/f etc/f=old", "etc/f=old x/l=new"},
		"the place itself may be given":            {[]*tar.Header{{Name: "./", Typeflag: tar.TypeDir, Mode: 0o700}, file("./a")}, "x", "x/", "x/a=new"},
		"what is no file is skipped":               {[]*tar.Header{{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}}, file("a")}, "x", "x/", "x/a=new"},
		"a contiguous file is one":                 {[]*tar.Header{{Name: "a", Typeflag: tar.TypeCont, Mode: 0o644, Uname: "new"}}, "x", "x/", "x/a=new"},
		"a place that is not there":                {nil, "x", "", "!no such directory"},
		"a place that is no directory":             {nil, "x", "x=1", "!not a directory"},
		"devices are left out":                     {[]*tar.Header{{Name: "sda", Typeflag: tar.TypeBlock, Devmajor: 8}}, "x", "x/", "x/"},
		"a directory over a file":                  {[]*tar.Header{{Name: "a", Typeflag: tar.TypeDir}}, "x", "x/a=1", "!with a directory"},
	} {
		t.Run(claim, func(t *testing.T) {
			root := tree(t, test.there)
			_, err := Unpack(t.Context(), archive(t, test.entries...), place(t, root, test.to), Options{})
			if want, fails := strings.CutPrefix(test.want, "!"); fails {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want an error that says %q", err, want)
				}
			} else if got := words(t, root); got != test.want || err != nil {
				t.Errorf("got  %s\nwant %s (%v)", got, test.want, err)
			}
		})
	}
	if _, err := Unpack(t.Context(), strings.NewReader(strings.Repeat("nonsense", 100)), place(t, tree(t, "x/"), "x"), Options{}); err == nil {
		t.Error("nonsense was unpacked")
	}
}
