package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFullDisk unpacks to a file system that is too small, for the store or for the
// files: what is full and what to do is said, and DIR is not there.
func TestFullDisk(t *testing.T) {
	r := newFakeRegistry(t)
	// Half a megabyte in the store, for it does not compress; the files are 8 MB.
	r.image("web:latest", []typed{layer(tarLayer, "a="+strings.Repeat("a", 1<<19)), layer(gzipLayer, "d/b="+strings.Repeat("b", 8<<20))}, nil)
	for _, c := range []struct {
		name         string
		storeIsSmall bool
		size         string
		message      string
	}{
		{"the store's", true, "size=256k", `(?s)^peel: .*store.*no space left on device\nhint: make room, or keep the store elsewhere`},
		{"DIR's, as is foreseen", false, "size=256k", `(?s)^peel: the image needs more than \d+ bytes.*\nhint: make room, or unpack`},
		{"DIR's", false, "size=4m", `(?s)^peel: layer sha256:\w+: entry d/b: write: no space left on device\nhint: make room, or unpack`},
	} {
		t.Run(c.name, func(t *testing.T) {
			small, store := t.TempDir(), t.TempDir()
			if err := unix.Mount("tmpfs", small, "tmpfs", 0, c.size); err != nil {
				t.Skipf("SKIPPED: needs to mount a tmpfs: %v", err)
			}
			defer unix.Unmount(small, unix.MNT_DETACH)
			target := filepath.Join(small, "d")
			if c.storeIsSmall {
				store, target = filepath.Join(small, "store"), filepath.Join(store, "d")
			}
			cmd := exec.Command("peel", "--root", store, "unpack", "-q", r.host()+"/web", target)
			out, err := cmd.CombinedOutput()
			if cmd.ProcessState.ExitCode() != exitFailure || !regexp.MustCompile(c.message).Match(out) {
				t.Errorf("%v: %s, want %s", err, out, c.message)
			}
			for _, name := range namesOf(t, filepath.Dir(target)) {
				if name != "images" && name != "lock" { // of a store
					t.Errorf("left behind: %s", name)
				}
			}
			if _, err := os.Lstat(target); err == nil {
				t.Error("DIR is there")
			}
		})
	}
}
