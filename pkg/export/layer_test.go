package export

import (
	"errors"
	"io"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLayers(t *testing.T) {
	const trusted, user = "trusted.overlay.", "user.overlay."
	for _, tc := range []struct {
		claim string
		steps []step
		o     Options
		want  string
		warns string
	}{
		{
			claim: "the root has an entry in a layer",
			steps: []step{file("f", 0o644, ""), setxattr(".", "user.a", "1")},
			o:     Options{Kind: Layer},
			want:  "5 0755 0:0 ./ user.a=\"1\"\n0 0644 0:0 f \"\"\n",
		},
		{
			claim: "what would mean a deletion is left out, with all below it",
			steps: []step{file(".wh.a", 0o644, ""), mkdir(".wh.d", 0o755), file(".wh.d/f", 0o644, ""), file("a", 0o644, ""), file("x.wh.y", 0o644, "")},
			o:     Options{Kind: Layer},
			want:  "5 0755 0:0 ./\n0 0644 0:0 a \"\"\n0 0644 0:0 x.wh.y \"\"\n",
			warns: `".wh.a": left out`,
		},
		{
			claim: "in an archive it is a file like others",
			steps: []step{file(".wh.a", 0o644, "")},
			want:  "0 0644 0:0 .wh.a \"\"\n",
		},
		{
			claim: "a whiteout of the overlay is one of the layer",
			steps: []step{mkdir("d", 0o755), node("d/gone", unix.S_IFCHR, 0, 0), node("d/tty", unix.S_IFCHR|0o600, 5, 0), node("gone", unix.S_IFCHR, 0, 0)},
			o:     Options{Kind: Changes},
			want: `5 0755 0:0 ./
5 0755 0:0 d/
0 0000 0:0 d/.wh.gone ""
3 0600 0:0 d/tty 5,0
0 0000 0:0 .wh.gone ""
`,
		},
		{
			claim: "many whiteouts are no hard links",
			steps: []step{node("a", unix.S_IFCHR, 0, 0), link("b", "a")},
			o:     Options{Kind: Changes},
			want:  "5 0755 0:0 ./\n0 0000 0:0 .wh.a \"\"\n0 0000 0:0 .wh.b \"\"\n",
		},
		{
			claim: "an opaque directory says so first",
			steps: []step{mkdir("d", 0o755), file("d/-", 0o644, ""), setxattr("d", trusted+"opaque", "y"), setxattr("d", trusted+"impure", "y"),
				mkdir("e", 0o755), setxattr("e", user+"opaque", "y")},
			o: Options{Kind: Changes},
			want: `5 0755 0:0 ./
5 0755 0:0 d/
0 0000 0:0 d/.wh..wh..opq ""
0 0644 0:0 d/- ""
5 0755 0:0 e/
`,
		},
		{
			claim: "the marks of an overlay that was mounted with userxattr are others",
			steps: []step{mkdir("d", 0o755), setxattr("d", user+"opaque", "y"), mkdir("e", 0o755), setxattr("e", trusted+"opaque", "y")},
			o:     Options{Kind: Changes, UserXattr: true},
			want:  "5 0755 0:0 ./\n5 0755 0:0 d/\n0 0000 0:0 d/.wh..wh..opq \"\"\n5 0755 0:0 e/\n",
		},
		{
			claim: "what was made to mount something on is no change",
			steps: []step{file("hosts", 0o644, ""), file("resolv", 0o644, "own"), mkdir("dev", 0o755), mkdir("proc", 0o755), mkdir("sys", 0o755), file("sys/f", 0o644, ""),
				symlink("l", "f"), file("other", 0o644, "")},
			o:    Options{Kind: Changes, Places: map[string]bool{"hosts": true, "resolv": true, "dev": true, "proc": true, "sys": true, "l": true}},
			want: "5 0755 0:0 ./\n2 0777 0:0 l -> f\n0 0644 0:0 other \"\"\n0 0644 0:0 resolv \"own\"\n5 0755 0:0 sys/\n0 0644 0:0 sys/f \"\"\n",
		},
		{
			claim: "marks mean nothing outside an overlay",
			steps: []step{mkdir("d", 0o755), setxattr("d", trusted+"opaque", "y"), setxattr("d", trusted+"redirect", "/x")},
			o:     Options{Kind: Layer},
			want:  "5 0755 0:0 ./\n5 0755 0:0 d/\n",
		},
	} {
		t.Run(tc.claim, func(t *testing.T) {
			needRoot(t)
			archive, warnings := archiveOf(t, tree(t, tc.steps...), tc.o)
			if got := list(t, archive); got != tc.want {
				t.Errorf("got\n%swant\n%s", got, tc.want)
			}
			if tc.warns == "" && len(warnings) > 0 || tc.warns != "" && (len(warnings) != 1 || !strings.Contains(warnings[0], tc.warns)) {
				t.Errorf("warnings %q, want %q", warnings, tc.warns)
			}
		})
	}
}

func TestChangesWhoseContentIsElsewhereAreRefused(t *testing.T) {
	needRoot(t)
	for _, mark := range []string{"redirect", "metacopy"} {
		dir := tree(t, mkdir("d", 0o755), mkdir("d/e", 0o755), setxattr("d/e", "trusted.overlay."+mark, "x"))
		err := exportTo(dir, io.Discard, Options{Kind: Changes})
		var entry *EntryError
		if !errors.Is(err, errElsewhere) || !errors.As(err, &entry) || entry.Name != "d/e" {
			t.Errorf("%s: %v", mark, err)
		}
	}
}
