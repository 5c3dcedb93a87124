package unpack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// asUser runs the calling test again in a process of uid and gid 65534 without
// any capability, and reports what it says. It returns true in that process.
func asUser(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		return true // this is it, or as good
	}
	exe := filepath.Join(workDir(t), "test") // where the user can reach it
	must(os.Chmod(filepath.Dir(exe), 0o755))
	must(copyFile(os.Args[0], exe))
	cmd := exec.Command(exe, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "TMPDIR=/dev/shm")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("as a user: %v\n%s", err, out)
	}
	return false
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o755)
}

// TestAUserWithoutPrivilege gets all but owners, devices and privileged
// attributes, and one warning for each kind.
func TestAUserWithoutPrivilege(t *testing.T) {
	if !asUser(t) {
		return
	}
	work := workDir(t)
	layers := []string{
		"dir . mode=0555; dir etc own=3:4 mode=0555; file etc/shadow s mode=0000 own=0:42; file etc/ro r mode=0444; char null 1:3 mode=0666; fifo p;" +
			"dir usr; dir usr/bin mode=0500; file usr/bin/su x mode=04755; link bin usr/bin; file gone 1; dir gone2 mode=0000; file gone2/x 1; dir o mode=0000; file o/x 1",
		"file etc/new n; file bin/tool t; hard hosts etc/shadow; file .wh.gone; file .wh.gone2; dir o mode=0111; file o/.wh..wh..opq; file o/y 2;" +
			"file cap x x:security.capability=zzz; dir etc mode=0000",
	}
	me := func(text string) string {
		var all []string
		for _, e := range parse(text) {
			if e.kind != "hard" {
				e.uid, e.gid = os.Geteuid(), os.Getegid()
			}
			all = append(all, e.String())
		}
		slices.SortStableFunc(all, func(a, b string) int { return strings.Compare(walkOrder(fields(a)[1]), walkOrder(fields(b)[1])) })
		return strings.Join(all, "\n")
	}
	want := "dir . mode=0555; dir etc mode=0000; file etc/shadow s mode=0000; file etc/ro r mode=0444; file null \"\" mode=0666; fifo p;" +
		"dir usr; dir usr/bin mode=0500; file usr/bin/su x mode=%s; link bin usr/bin; file etc/new n; file usr/bin/tool t; hard hosts etc/shadow; dir o mode=0111; file o/y 2; file cap x"
	for _, c := range []struct {
		form     Form
		suMode   string
		warnings []string
	}{
		{Bundle, "4755", []string{"21 owners not restored", "1 devices made as empty files", "1 extended attributes not restored"}},
		{Rootfs, "0755", []string{"21 owners not restored", "1 set-id bits of other owners' files left out", "1 devices made as empty files", "1 extended attributes not restored"}},
	} {
		var warn warnings
		dir := filepath.Join(work, fmt.Sprint("d", c.form))
		src, img := imageOfText(layers...)
		if _, err := Image(context.Background(), src, img, dir, Options{Form: c.form, Progress: warn.add}); err != nil {
			t.Fatal(err)
		}
		root := dir
		if c.form == Bundle {
			root = filepath.Join(dir, "rootfs")
		}
		// Its modes keep this user from reading it: look at them, then open up.
		got := listClosed(t, root)
		if w := me(fmt.Sprintf(want, c.suMode)); got != w {
			t.Errorf("got:\n%s\nwant:\n%s", got, w)
		}
		if !slices.EqualFunc(warn.texts, c.warnings, strings.HasPrefix) {
			t.Errorf("warnings: %q, want %q", warn.texts, c.warnings)
		}
		// Replacing it works in spite of its modes.
		if _, err := Image(context.Background(), src, img, dir, Options{Form: c.form, Force: true}); err != nil {
			t.Error(err)
		}
		if names := namesIn(work); slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, stagingPrefix) }) {
			t.Errorf("left behind: %v", names)
		}
	}

	src, img := imageOfText(layers...)
	_, err := Image(context.Background(), src, img, filepath.Join(work, "strict"), Options{Strict: true})
	if e := (*EntryError)(nil); !errors.As(err, &e) || !errors.Is(err, unix.EPERM) {
		t.Errorf("strict: %v, want EPERM for an entry", err)
	}
}

// listClosed is list for a tree that its owner must open up to read. It gives each
// mode as it was.
func listClosed(t *testing.T, root string) string {
	t.Helper()
	closed := map[string]uint32{}
	var open func(path string)
	open = func(path string) {
		var st unix.Stat_t
		must(unix.Lstat(path, &st))
		kind := st.Mode & unix.S_IFMT
		rel, err := filepath.Rel(root, path)
		must(err)
		if kind == unix.S_IFDIR || kind == unix.S_IFREG {
			closed[rel] = st.Mode & 0o7777
			must(unix.Chmod(path, 0o700))
		}
		if kind == unix.S_IFDIR {
			for _, n := range namesIn(path) {
				open(filepath.Join(path, n))
			}
		}
	}
	open(root)
	var all []string
	for _, e := range parse(list(t, root)) {
		if mode, ok := closed[e.name]; ok && e.kind != "hard" {
			e.mode = mode
		}
		all = append(all, e.String())
	}
	if all[0] != "" && !strings.HasPrefix(all[0], "dir .") {
		t.Fatalf("no root in %v", all)
	}
	return strings.Join(all, "\n")
}
