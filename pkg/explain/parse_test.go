package explain

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestParseMountInfo(t *testing.T) {
	for _, tc := range []struct {
		claim, line string
		want        mountInfo
		ok          bool
	}{
		{"no optional fields", "69 46 0:39 / /a rw - overlay o rw,x=1", mountInfo{69, "/", "/a", false, "overlay", "o", "rw,x=1"}, true},
		{"many", "69 46 0:39 /s / rw,nosuid shared:1 master:2 propagate_from:3 - ext4 /dev/vda rw", mountInfo{69, "/s", "/", false, "ext4", "/dev/vda", "rw"}, true},
		{"names are escaped", `1 2 0:1 /a\040b /c\134\011d ro - fuse.x y\040z rw`, mountInfo{1, "/a b", "/c\\\td", true, "fuse.x", "y z", "rw"}, true},
		{"a file system that is read-only", "1 2 0:1 / / rw - erofs none ro", mountInfo{1, "/", "/", true, "erofs", "none", "ro"}, true},
		{"an empty source", "1 2 0:1 / / rw - tmpfs  rw", mountInfo{1, "/", "/", false, "tmpfs", "", "rw"}, true},
		{"no dash", "1 2 0:1 / / rw tmpfs none rw", mountInfo{}, false},
		{"a dash too early", "1 2 - / / rw tmpfs none rw", mountInfo{}, false},
		{"cut off", "1 2 0:1 / / rw - tmpfs none", mountInfo{}, false},
		{"no number", "x 2 0:1 / / rw - tmpfs none rw", mountInfo{}, false},
		{"empty", "", mountInfo{}, false},
	} {
		got, err := parseMountInfo(tc.line)
		if (err == nil) != tc.ok || got != tc.want {
			t.Errorf("%s: %+v, %v; want %+v, ok %v", tc.claim, got, err, tc.want, tc.ok)
		}
	}
}

func TestOverlayLayers(t *testing.T) {
	for _, tc := range []struct {
		claim, super, want string
	}{
		{"layers are listed", "rw,lowerdir=/a:/b,upperdir=/u,workdir=/w", "[/a /b] /u /w"},
		{"commas and spaces are octal", `rw,lowerdir=/a\054b:/c\040d`, "[/a,b /c d]  "},
		{"colons have a backslash, which is octal", `rw,lowerdir=/a\134:b:/c`, "[/a:b /c]  "},
		{"an escaped backslash before a colon", `rw,lowerdir=/a\134\134:/b`, `[/a\ /b]  `},
		{"data-only layers stand behind two colons", "ro,lowerdir=/a::/d1::/d2", "[/a /d1 /d2]  "},
		{"one option a layer", "ro,lowerdir+=/a,lowerdir+=/b:c,datadir+=/d", "[/a /b:c /d]  "},
	} {
		var r Root
		r.layers(tc.super)
		if got := fmt.Sprintf("%v %s %s", r.Lower, r.Upper, r.Work); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.claim, got, tc.want)
		}
	}
}

func TestParseStarted(t *testing.T) {
	rest := strings.Repeat(" 0", 18) + " 4711 7"
	for _, tc := range []struct {
		claim, stat, want string
		gone, bad         bool
	}{
		{"plain", "1 (sh) S" + rest, "4711", false, false},
		{"a name made to mislead", "1 (a) Z 1 (b) S" + rest, "4711", false, false},
		{"a zombie", "1 (sh) Z" + rest, "", true, false},
		{"cut off", "1 (sh) S 1 2", "", false, true},
		{"empty", "", "", false, true},
	} {
		got, err := parseStarted([]byte(tc.stat))
		if got != tc.want || (err == ErrGone) != tc.gone || (err != nil && err != ErrGone) != tc.bad {
			t.Errorf("%s: %q, %v", tc.claim, got, err)
		}
	}
}

func TestParseIDMap(t *testing.T) {
	got, err := parseIDMap([]byte("         0       1000          1\n         1     100000      65536\n"))
	if want := []IDRange{{0, 1000, 1}, {1, 100000, 65536}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	for _, bad := range []string{"0 1\n", "0 1 2 3\n", "0 x 1\n", "0 0 y\n"} {
		if got, err := parseIDMap([]byte(bad)); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

func TestGroupDirectory(t *testing.T) {
	for _, tc := range []struct{ root, at, group, want string }{
		{"/", "/sys/fs/cgroup", "/a/b", "sys/fs/cgroup/a/b"},
		{"/", "/sys/fs/cgroup", "/", "sys/fs/cgroup"},
		{"/a", "/sys/fs/cgroup", "/a/b", "sys/fs/cgroup/b"},
		{"/a", "/sys/fs/cgroup", "/a", "sys/fs/cgroup"},
		{"/a", "/sys/fs/cgroup", "/ab", ""},       // beside what is mounted
		{"/", "/sys/fs/cgroup", "/../x", ""},      // outside the reader's namespace
		{"/", "/sys/fs/cgroup", "/..", ""},        // so is this
		{"/", "/sys/fs/cgroup", "/a/../../x", ""}, // no name that the kernel gives
	} {
		if got := (hierarchy{tc.root, tc.at}).directory(tc.group); got != tc.want {
			t.Errorf("%s of %s at %s: %q, want %q", tc.group, tc.root, tc.at, got, tc.want)
		}
	}
}

func TestCapabilityNames(t *testing.T) {
	if len(known) != 41 || known[21].Name != "CAP_SYS_ADMIN" || known[40].Name != "CAP_CHECKPOINT_RESTORE" {
		t.Fatal("the table is out of step with linux/capability.h")
	}
	for _, c := range known {
		if c.Allows == "" || !strings.HasPrefix(c.Name, "CAP_") {
			t.Errorf("%+v", c)
		}
	}
	if Docker != 0xa80425fb || Docker.Len() != 14 {
		t.Errorf("docker's set is %x", uint64(Docker))
	}
	b, err := json.Marshal(CapabilitySet(1<<63 | 1))
	if err != nil || string(b) != `["CAP_CHOWN","CAP_63"]` {
		t.Errorf("%s, %v", b, err)
	}
}

// A container chooses where it mounts and what it calls itself.
func FuzzMountInfo(f *testing.F) {
	f.Add("69 46 0:39 / / ro,relatime - overlay overlay rw,lowerdir=lower:b,upperdir=upper")
	f.Add(`47 70 0:42 /a\040 /proc/b\011us ro shared:1 - proc proc rw`)
	f.Add(`1 1 0:1 / / rw - overlay x lowerdir=\134`)
	f.Fuzz(func(t *testing.T, line string) {
		m, err := parseMountInfo(line)
		if err != nil {
			return
		}
		var r Root
		r.is(m)
		r.over(m)
		if len(r.Masked)+len(r.Guarded)+len(r.Mounts) > 1 {
			t.Errorf("one line, listed twice: %+v", r)
		}
		if n := len(strings.Join(r.Lower, "")); n > len(m.super) {
			t.Errorf("%d bytes of layers in %q", n, m.super)
		}
	})
}

func FuzzStat(f *testing.F) {
	f.Add([]byte("1 (sh) S 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 4711 7"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseStarted(b); err == nil && (s == "" || strings.ContainsAny(s, " \n")) {
			t.Errorf("%q", s)
		}
	})
}
