package unpack

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"peel/e2e/user"
	"peel/pkg/layers/changeset"
)

// TestMergeEqualsApplyingOneAfterTheOther unpacks thousands of random stacks of
// layers and compares with the reference. PEEL_STACKS asks for another number
// of them, PEEL_SEED for another first one.
func TestMergeEqualsApplyingOneAfterTheOther(t *testing.T) {
	needRoot(t)
	compareStacks(t)
}

// The same as root of a user namespace, where owners are true and devices are
// recorded, and as a user, where both are.
func TestMergeEqualsItForAUserWithSubordinateIDs(t *testing.T) {
	if user.Again(t, user.Mapped) {
		compareStacks(t)
	}
}

func TestMergeEqualsItForAUser(t *testing.T) {
	if user.Again(t, user.Plain) {
		compareStacks(t)
	}
}

func compareStacks(t *testing.T) {
	stacks, seed := number("PEEL_STACKS", 4000), number("PEEL_SEED", 1)
	if testing.Short() {
		stacks = 500
	}
	work := workDir(t)
	var compared, unclear, refused int
	for i := range uint64(stacks) {
		layers := randomStack(rand.New(rand.NewPCG(uint64(seed)+i, 0)))
		want, clear, wantErr := applyAll(layers)
		want = linksToRoot(want)
		dir := filepath.Join(work, fmt.Sprint(i))
		src, img := imageOfText(layers...)
		_, err := Image(context.Background(), src, img, dir, Options{Form: Rootfs})
		switch {
		case !clear:
			unclear++
		case wantErr != nil && err != nil:
			refused++
		case (wantErr == nil) != (err == nil):
			t.Fatalf("seed %d: error %v, the reference says %v\n%s", uint64(seed)+i, err, wantErr, strings.Join(layers, "\n--\n"))
		default:
			compared++
			if got := list(t, dir); got != want {
				t.Fatalf("seed %d:\n%s\n-- got:\n%s\n-- want:\n%s", uint64(seed)+i, strings.Join(layers, "\n--\n"), got, want)
			}
		}
		if err == nil {
			must(removeAt(unix.AT_FDCWD, dir))
		}
		if left, _ := os.ReadDir(work); len(left) > 0 {
			t.Fatalf("seed %d: left over: %v", uint64(seed)+i, left)
		}
	}
	t.Logf("%d stacks: %d equal, %d refused by both, %d not compared", stacks, compared, refused, unclear)
	if compared < stacks/2 {
		t.Errorf("only %d of %d stacks say anything", compared, stacks)
	}
}

// linksToRoot forgets the owners of links that the user cannot give them to, for
// links have no attributes in which they could be recorded.
func linksToRoot(tree string) string {
	if user.Inside() == "" {
		return tree
	}
	lines := strings.Split(tree, "\n")
	for i, line := range lines {
		if !strings.HasPrefix(line, "link ") {
			continue
		}
		if e := parseEntry(fields(line)); user.Inside() == user.Plain || e.uid == unmapped {
			e.uid, e.gid = 0, 0
			lines[i] = e.String()
		}
	}
	return strings.Join(lines, "\n")
}

// unmapped is an id that no user of the tests has.
const unmapped = 1_000_000

func number(env string, otherwise int) int {
	n := otherwise
	if s := os.Getenv(env); s != "" {
		_, err := fmt.Sscan(s, &n)
		must(err)
	}
	return n
}

func applyAll(layers []string) (tree string, clear bool, err error) {
	r := newReference()
	for i, l := range layers {
		if err := r.apply(i == 0, parse(l)); err != nil {
			return "", !r.unclear, err
		}
	}
	return r.list(), !r.unclear, nil
}

// randomStack makes layers of few names, so that they meet.
func randomStack(r *rand.Rand) []string {
	var layers, files []string
	count := 0
	for range 2 + r.IntN(3) {
		var b strings.Builder
		for range 1 + r.IntN(8) {
			count++
			e := randomEntry(r, count)
			switch {
			case e.kind == "hard" && len(files) == 0:
				continue
			case e.kind == "hard" && r.IntN(50) > 0: // of random targets, few are there
				e.arg = files[r.IntN(len(files))]
			case e.kind != "dir":
				files = append(files, e.name)
			}
			fmt.Fprintln(&b, e)
		}
		layers = append(layers, b.String())
	}
	return layers
}

func randomEntry(r *rand.Rand, n int) entry {
	e := entry{name: randomPath(r), mode: []uint32{0o644, 0o600, 0o4755, 0o2711}[r.IntN(4)], uid: r.IntN(2) * 7, gid: r.IntN(2) * 8, mtime: time.Unix(int64(n), 5), xattrs: map[string]string{}}
	switch p := r.IntN(100); {
	case p < 30:
		e.kind, e.mode = "dir", []uint32{0o755, 0o700, 0o2775, 0o1777, 0o555, 0}[r.IntN(6)]
	case p < 60:
		e.kind, e.arg = "file", fmt.Sprint("content", n)
	case p < 72:
		e.kind, e.mode, e.arg = "link", 0o777, randomPath(r)
		if r.IntN(4) == 0 {
			e.arg = "/" + e.arg
		}
	case p < 77:
		e.kind, e.arg = "hard", randomPath(r)
	case p < 80:
		e.kind = "fifo"
	case p < 84:
		e.kind, e.arg = "char", "1:3"
	case p < 96:
		dir, base := splitText(e.name)
		e = entry{kind: "file", name: joinPath(dir, changeset.WhiteoutPrefix+base), mode: 0o644, mtime: e.mtime}
	default:
		e = entry{kind: "file", name: joinPath(e.name, changeset.OpaqueName), mode: 0o644, mtime: e.mtime}
	}
	if user.Inside() != "" && r.IntN(8) == 0 {
		e.uid = unmapped
	}
	if (e.kind == "dir" || e.kind == "file") && r.IntN(4) == 0 && e.xattrs != nil {
		namespace := "trusted."
		if user.Inside() != "" {
			namespace = "user."
		}
		e.xattrs[namespace+string(rune('a'+r.IntN(2)))] = fmt.Sprint(n)
	}
	return e
}

func randomPath(r *rand.Rand) string {
	names := []string{"a", "b", "c", "d"}
	var p []string
	for range 1 + min(r.IntN(3), r.IntN(4)) {
		p = append(p, names[r.IntN(len(names))])
	}
	return strings.Join(p, "/")
}
