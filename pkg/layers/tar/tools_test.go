package tar

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestArchivesOfOtherTars reads what GNU tar and bsdtar write, in each of their
// formats, of a tree with all that a format may find hard.
func TestArchivesOfOtherTars(t *testing.T) {
	dir := t.TempDir()
	long := strings.Repeat(strings.Repeat("d", 50)+"/", 5) + strings.Repeat("f", 90)
	target := strings.Repeat("../", 50) + "nowhere"
	path := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Dir(path(long)), 0o755))
	must(os.WriteFile(path(long), []byte("far away"), 0o600))
	must(os.WriteFile(path("caf\xe9"), []byte("not UTF-8"), 0o644))
	must(os.WriteFile(path("empty"), nil, 0o644))
	must(os.Link(path("empty"), path("zz-second-name")))
	must(os.Symlink(target, path("link")))
	must(unix.Mkfifo(path("fifo"), 0o644))
	when := time.Unix(1234567890, 123456789)
	must(os.Chtimes(path("empty"), when, when))
	sparse := make([]byte, maxContent)
	hole, err := os.Create(path("sparse"))
	must(err)
	for _, off := range []int{0, 256 << 10, 768 << 10} {
		data := bytes.Repeat([]byte{'s'}, 4096)
		copy(sparse[off:], data)
		_, err = hole.WriteAt(data, int64(off))
		must(err)
	}
	must(hole.Truncate(int64(len(sparse))))
	must(hole.Close())
	withXattr := unix.Setxattr(path("empty"), "user.peel", []byte("a\x00b\n"), 0) == nil
	if !withXattr {
		t.Log("SKIP the extended attribute: the file system has no user.*")
	}

	for _, c := range []struct {
		tool   string
		args   string
		long   bool // the format can hold long names
		nsec   bool // and times under a second
		xattr  bool
		sparse bool
	}{
		{tool: "tar", args: "--format=v7"},
		{tool: "tar", args: "--format=ustar"},
		{tool: "tar", args: "--format=oldgnu -S", long: true, sparse: true},
		{tool: "tar", args: "--format=gnu -S", long: true, sparse: true},
		{tool: "tar", args: "--format=gnu --incremental", long: true},
		{tool: "tar", args: "--format=posix --xattrs", long: true, nsec: true, xattr: true},
		{tool: "tar", args: "--format=posix -S --sparse-version=0.0", long: true, nsec: true, sparse: true},
		{tool: "tar", args: "--format=posix -S --sparse-version=0.1", long: true, nsec: true, sparse: true},
		{tool: "tar", args: "--format=posix -S --sparse-version=1.0 --xattrs", long: true, nsec: true, sparse: true, xattr: true},
		{tool: "bsdtar", args: "--format=v7"},
		{tool: "bsdtar", args: "--format=ustar"},
		{tool: "bsdtar", args: "--format=gnutar", long: true},
		{tool: "bsdtar", args: "--format=pax", long: true, nsec: true, sparse: true, xattr: true},
		{tool: "bsdtar", args: "--format=pax --no-read-sparse", long: true, nsec: true, xattr: true},
	} {
		t.Run(c.tool+" "+c.args, func(t *testing.T) {
			if _, err := exec.LookPath(c.tool); err != nil {
				t.Skip("SKIP: no " + c.tool)
			}
			if v, _ := exec.Command(c.tool, "--version").Output(); (c.tool == "tar") != strings.Contains(string(v), "GNU tar") {
				t.Skipf("SKIP: %s is another one: %s", c.tool, v)
			}
			// Some formats cannot hold the long names and make the tool fail: then
			// the rest of its archive still counts.
			data, err := exec.Command(c.tool, append(strings.Fields(c.args), "-c", "-C", dir, "-f", "-", ".")...).Output()
			if err != nil && c.long {
				t.Fatal(err)
			}
			if err := compare(data, 10000); err != nil {
				t.Error(err)
			}
			got := map[string]entry{}
			for _, e := range mustRead(t, data, 256<<10) {
				if e.typ >= '0' && e.typ <= '6' {
					got[strings.TrimPrefix(e.name, "./")] = e
				}
			}
			check := func(what string, ok bool, e entry) {
				if !ok {
					e.content = ""
					t.Errorf("%s: %+v", what, e)
				}
			}
			e := got["caf\xe9"]
			check("name of bytes", e.content == "not UTF-8" && e.mode == 0o644, e)
			e = got["fifo"]
			check("FIFO", e.typ == TypeFifo || strings.Contains(c.args, "v7"), e)
			e, hard := got["empty"], got["zz-second-name"]
			if e.typ == TypeLink {
				e, hard = hard, e
			}
			check("hard link", hard.typ == TypeLink && e.typ == TypeReg, hard)
			want := when
			if !c.nsec {
				want = want.Truncate(time.Second)
			}
			check("mtime", e.mtime.Equal(want), e)
			if c.xattr && withXattr {
				check("extended attribute", strings.Contains(e.xattrs, `"user.peel"="a\x00b\n"`), e)
			}
			e = got["sparse"]
			check("bytes of the sparse file", e.content == string(sparse), e)
			if c.sparse {
				check("extents", e.sparse != "" || c.tool == "bsdtar", e) // bsdtar asks the file system
			}
			if c.long {
				e = got[long]
				check("long name", e.content == "far away" && e.mode == 0o600, e)
				e = got["link"]
				check("long link", e.link == target, e)
			}
		})
	}
}
