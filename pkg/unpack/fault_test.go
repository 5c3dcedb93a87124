package unpack

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// faulty are the calls that are made to fail.
var faulty = []struct {
	name string
	// entry: the error names an entry of the image, whichever call of this name fails.
	entry bool
	// cleans: removing the staging directory needs it too, and may fail in turn.
	cleans bool
	// full: it can find the disk or the quota full.
	full bool
}{
	{"openat", false, true, true}, {"openat2", false, false, false}, {"close", false, true, false},
	{"write", false, false, true}, {"pwrite64", true, false, true}, {"ftruncate", true, false, true},
	{"mkdirat", false, false, true}, {"symlinkat", true, false, true}, {"linkat", true, false, true}, {"mknodat", true, false, true},
	{"fchown", false, false, false}, {"fchmod", false, false, false}, {"fsetxattr", true, false, true},
	{"utimensat", true, false, false}, {"renameat2", false, false, true}, {"unlinkat", false, true, false},
	{"getdents64", false, true, false}, {"flock", false, false, false}, {"newfstatat", false, true, false}, {"fstat", false, true, false}, {"readlinkat", true, false, false},
}

// TestAFaultInAnyCallIsAnErrorAndLeavesNoDir has one system call of each kind fail
// as on a broken disk, a full one, and one with a quota: the first of its kind, or a
// later one. The error tells which entry it was for, nothing is left, and the same
// command again gives the right result.
func TestAFaultInAnyCallIsAnErrorAndLeavesNoDir(t *testing.T) {
	needRoot(t)
	if err := exec.Command("strace", "-f", "-o", "/dev/null", "true").Run(); err != nil {
		t.Skipf("SKIPPED: needs strace, which injects the faults: %v", err)
	}
	src, img := sampleImage()
	whole := filepath.Join(workDir(t), "d")
	if _, err := Image(context.Background(), src, img, whole, Options{Form: Rootfs}); err != nil {
		t.Fatal(err)
	}
	want := list(t, whole)
	failed, told := 0, map[string]bool{}
	for _, c := range faulty {
		for _, fault := range []string{"EIO", "ENOSPC", "EDQUOT"} {
			times := []int{1, 7, number("PEEL_FAULT", 60)}
			if fault != "EIO" || testing.Short() {
				times = times[:1]
			}
			if fault != "EIO" && !c.full {
				continue
			}
			for _, when := range times {
				what := fmt.Sprintf("%s in %s, number %d", fault, c.name, when)
				place := workDir(t)
				dir := filepath.Join(place, "d")
				cmd := exec.Command("strace", "-f", "-o", "/dev/null", "-e", "trace="+c.name,
					"-e", fmt.Sprintf("inject=%s:error=%s:when=%d", c.name, fault, when), os.Args[0])
				cmd.Env = append(os.Environ(), "PEEL_UNPACK_CHILD="+dir, "PEEL_UNPACK_AT=-1")
				out, _ := cmd.CombinedOutput()
				said := string(out)
				switch {
				case strings.Contains(said, "done: <nil>"): // there was no such call, or it did not matter
					if got := list(t, dir); got != want {
						t.Errorf("%s: no error, and a wrong tree:\n%s", what, got)
					}
				case strings.Contains(said, "done: "):
					failed++
					told[c.name] = true
					if !strings.Contains(said, meaning[fault]) {
						t.Errorf("%s: %s: does not tell what went wrong", what, said)
					}
					if c.entry && !strings.Contains(said, "entry ") {
						t.Errorf("%s: %s: does not tell where", what, said)
					}
					if names := namesIn(place); !c.cleans && len(names) > 0 || slices.Contains(names, "d") {
						t.Errorf("%s: %s: and yet there is %v", what, said, names)
					}
				default: // the Go runtime did not come up
					if _, err := os.Lstat(dir); !os.IsNotExist(err) {
						t.Errorf("%s: %s: DIR is there", what, said)
					}
				}
				// Whatever happened, the same command again gives the right result.
				must(removeAt(unix.AT_FDCWD, dir))
				if _, err := Image(context.Background(), src, img, dir, Options{Form: Rootfs}); err != nil {
					t.Errorf("%s: and then: %v", what, err)
				}
				if names := namesIn(place); len(names) != 1 {
					t.Errorf("%s: left behind: %v", what, names)
				}
			}
		}
	}
	t.Logf("%d faults were fatal, in %d kinds of calls", failed, len(told))
	for _, c := range faulty {
		if c.entry && !told[c.name] {
			t.Errorf("no fault in %s was fatal: this says nothing of it", c.name)
		}
	}
}

var meaning = map[string]string{"EIO": "input/output error", "ENOSPC": "no space left on device", "EDQUOT": "disk quota exceeded"}
