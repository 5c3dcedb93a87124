package unpack

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"peel/e2e/user"
)

// userLayers have what a user without privilege cannot restore, and what would keep
// him out of his own files.
var userLayers = []string{
	"dir . mode=0555; dir etc own=3:4 mode=0555; file etc/shadow s mode=0000 own=0:42; file etc/ro r mode=0444; char null 1:3 mode=0666; block sda 8:16; fifo p mode=0000;" +
		"dir usr; dir usr/bin mode=0500; file usr/bin/su x mode=04755; link bin usr/bin; link l x own=5:5; file gone 1; dir gone2 mode=0000; file gone2/x 1; dir o mode=0000; file o/x 1;" +
		"file far 1 own=1000000:7; dir away own=7:1000000 mode=0700",
	"file etc/new n; file bin/tool t; hard hosts etc/shadow; file .wh.gone; file .wh.gone2; dir o mode=0111; file o/.wh..wh..opq; file o/y 2;" +
		"file trusted x x:trusted.x=y; dir etc mode=0000 own=1:2; file big \"\" own=9:9",
}

// userTree is what they come to, for those who can see what files stand for.
const userTree = "dir . mode=0555; dir away own=7:1000000 mode=0700; file big \"\" own=9:9; dir etc mode=0000 own=1:2; file etc/shadow s mode=0000 own=0:42; file etc/ro r mode=0444;" +
	"char null 1:3 mode=0666; block sda 8:16; fifo p mode=0000;" +
	"dir usr; dir usr/bin mode=0500; file usr/bin/su x mode=04755; link bin usr/bin; link l x%s; file etc/new n; file usr/bin/tool t; hard hosts etc/shadow;" +
	"dir o mode=0111; file o/y 2; file trusted x; file far 1 own=1000000:7"

// TestAUserWithoutPrivilege gets all but the owners of links and privileged
// attributes, and one warning for each kind of thing that is not as in the image.
func TestAUserWithoutPrivilege(t *testing.T) {
	if !user.Again(t, user.Plain) {
		return
	}
	const (
		owners  = "6 owners recorded and not set, such as of entry "
		links   = "1 owners not restored, such as of entry l: chown: operation not permitted"
		devices = "3 devices and FIFOs recorded and made as empty files, such as of entry "
		xattr   = "1 extended attributes not restored, such as of entry trusted: set trusted.x: "
		setID   = "1 set-id bits recorded and not set, such as of entry usr/bin/su: chmod: "
	)
	root := unpackAsUser(t, Bundle, "", links, owners, devices, xattr)
	// He can do with each what he likes, and it is his.
	err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		must(unix.Lstat(path, &st))
		need := map[uint32]uint32{unix.S_IFREG: 0o600, unix.S_IFDIR: 0o700, unix.S_IFLNK: 0}
		if bits, ok := need[st.Mode&unix.S_IFMT]; !ok || st.Mode&bits != bits || st.Uid != user.ID || st.Gid != user.ID {
			t.Errorf("%s: mode %o, owner %d:%d", path, st.Mode, st.Uid, st.Gid)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	checkMode(t, filepath.Join(root, "usr/bin/su"), 0o4755)
	checkMode(t, filepath.Join(root, "etc/ro"), 0o644)
	root = unpackAsUser(t, Rootfs, "", links, owners, setID, devices, xattr)
	checkMode(t, filepath.Join(root, "usr/bin/su"), 0o755)

	src, img := imageOfText(userLayers...)
	_, err = Image(context.Background(), src, img, filepath.Join(workDir(t), "strict"), Options{Strict: true})
	if e := (*EntryError)(nil); !errors.As(err, &e) || !errors.Is(err, unix.EPERM) {
		t.Errorf("strict: %v, want EPERM for an entry", err)
	}
}

// TestAUserWithSubordinateIDs gets owners too, as far as his ids go.
func TestAUserWithSubordinateIDs(t *testing.T) {
	if !user.Again(t, user.Mapped) {
		return
	}
	root := unpackAsUser(t, Bundle, " own=5:5",
		"2 owners recorded and not set, such as of entry ",
		"2 devices and FIFOs recorded and made as empty files, such as of entry ",
		"1 extended attributes not restored, such as of entry trusted: ")
	for name, own := range map[string][2]uint32{"etc": {1, 2}, "etc/shadow": {0, 42}, "big": {9, 9}, "l": {5, 5}, "far": {0, 0}, "away": {0, 0}} {
		var st unix.Stat_t
		must(unix.Lstat(filepath.Join(root, name), &st))
		if [2]uint32{st.Uid, st.Gid} != own {
			t.Errorf("%s belongs to %d:%d", name, st.Uid, st.Gid)
		}
	}
	if x := xattrsOf(filepath.Join(root, "etc/ro")); len(x) > 0 {
		t.Errorf("a file that is as in the image has attributes: %v", x)
	}
	checkMode(t, filepath.Join(root, "etc"), 0)
	checkMode(t, filepath.Join(root, "usr/bin/su"), 0o4755)
}

// TestSetIDBitsAreLeftOutOnRequest: what a bare root file system could lend to others
// is recorded.
func TestSetIDBitsAreLeftOutOnRequest(t *testing.T) {
	needRoot(t)
	src, img := imageOfText("file su x mode=04755; file wall x mode=02755 own=0:5; dir d mode=02775; file f x")
	for form, want := range map[Form]uint32{Rootfs: 0o755, Bundle: 0o4755} {
		var warn warnings
		dir := filepath.Join(workDir(t), "d")
		if _, err := Image(context.Background(), src, img, dir, Options{Form: form, DropSetID: true, Progress: warn.add}); err != nil {
			t.Fatal(err)
		}
		if form == Bundle {
			dir = filepath.Join(dir, "rootfs")
		} else if len(warn.texts) != 1 || !strings.HasPrefix(warn.texts[0], "2 set-id bits recorded") {
			t.Errorf("warnings: %q", warn.texts)
		}
		checkMode(t, filepath.Join(dir, "su"), want)
		checkMode(t, filepath.Join(dir, "d"), 0o2775)
		if got, want := list(t, dir), lines("file su x mode=04755; file wall x mode=02755 own=0:5; dir d mode=02775; file f x"); got != want {
			t.Errorf("got:\n%s\nwant:\n%s", got, want)
		}
	}
}

// TestTheParentNeedNotBeReadable: to make DIR in a directory, write and search do.
func TestTheParentNeedNotBeReadable(t *testing.T) {
	if !user.Again(t, user.Plain) {
		return
	}
	parent := filepath.Join(workDir(t), "p")
	must(os.Mkdir(parent, 0o300))
	src, img := imageOfText("file a 1")
	for _, force := range []bool{false, true} {
		if _, err := Image(context.Background(), src, img, filepath.Join(parent, "d"), Options{Form: Rootfs, Force: force}); err != nil {
			t.Fatal(err)
		}
	}
	must(os.Chmod(parent, 0o700))
	if names := namesIn(parent); !slices.Equal(names, []string{"d"}) {
		t.Errorf("there is %v", names)
	}
}

func checkMode(t *testing.T, path string, want uint32) {
	t.Helper()
	var st unix.Stat_t
	must(unix.Lstat(path, &st))
	if got := st.Mode & 0o7777; got != want {
		t.Errorf("%s: mode %04o, want %04o", path, got, want)
	}
}

// unpackAsUser unpacks userLayers, twice, and checks what came out. It returns the
// root directory. linkOwner is the owner of the link that has another than root.
func unpackAsUser(t *testing.T, form Form, linkOwner string, want ...string) string {
	t.Helper()
	var warn warnings
	work := workDir(t)
	dir := filepath.Join(work, "d")
	src, img := imageOfText(userLayers...)
	if _, err := Image(context.Background(), src, img, dir, Options{Form: form, Progress: warn.add}); err != nil {
		t.Fatal(err)
	}
	if !slices.EqualFunc(warn.texts, want, strings.HasPrefix) {
		t.Errorf("warnings: %q, want %q", warn.texts, want)
	}
	root := dir
	if form == Bundle {
		root = filepath.Join(dir, "rootfs")
	}
	if got, want := list(t, root), lines(strings.Replace(userTree, "%s", linkOwner, 1)); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	// Replacing it works in spite of its modes.
	if _, err := Image(context.Background(), src, img, dir, Options{Form: form, Force: true}); err != nil {
		t.Error(err)
	}
	if names := namesIn(work); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
	return root
}
