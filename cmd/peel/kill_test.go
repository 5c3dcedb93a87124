package main

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestKilledAtAnyMoment kills `peel unpack` after its first event, its second, and
// so on until it gets to its end: after each, the store can be used, and nothing
// is at DIR. What was killed last is then finished.
func TestKilledAtAnyMoment(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("owners need root")
	}
	for name, keep := range map[string]bool{"each on what the last has left": true, "each from the start": false} {
		t.Run(name, func(t *testing.T) {
			r := newFakeRegistry(t)
			noise := make([]byte, 1<<20) // more than one event's worth
			rand.NewChaCha8([32]byte{}).Read(noise)
			r.image("web:latest", []typed{layer(gzipLayer, "a/", "a/noise="+string(noise)), layer(tarLayer, "b="+string(noise[:1<<19]))}, nil)
			dir := t.TempDir()
			store, target := filepath.Join(dir, "store"), filepath.Join(dir, "web")
			for n := 1; ; n++ {
				if !keep {
					if err := os.RemoveAll(store); err != nil {
						t.Fatal(err)
					}
				}
				if ended := killAfter(t, n, "--root", store, "unpack", r.host()+"/web", target); ended {
					if n < 6 {
						t.Fatalf("after %d events it was done", n)
					}
					break
				}
				checkStore(t, store)
				if _, err := os.Lstat(filepath.Join(target, "config.json")); err != nil {
					if _, err := os.Lstat(target); err == nil {
						t.Fatalf("killed after event %d, half a bundle is there", n)
					}
				} else if err := os.RemoveAll(target); err != nil { // it was killed on its last lines
					t.Fatal(err)
				}
			}
			if got, err := os.ReadFile(filepath.Join(target, "rootfs", "a", "noise")); err != nil || string(got) != string(noise) {
				t.Fatalf("a file has %d bytes, %v", len(got), err)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
				t.Fatalf("left behind: %v", left)
			}
		})
	}
}

// killAfter runs peel and kills it when it has told n events. It reports whether
// peel ended well before that.
func killAfter(t *testing.T, n int, args ...string) (ended bool) {
	t.Helper()
	cmd := exec.Command("peel", append([]string{"--progress", "json"}, args...)...)
	events, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var told []string
	for lines := bufio.NewScanner(events); len(told) < n && lines.Scan(); {
		told = append(told, lines.Text())
	}
	if len(told) == n {
		cmd.Process.Kill()
		cmd.Wait()
		return false
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, strings.Join(told, "\n"))
	}
	return true
}

// checkStore: the store can be read, and has no blob that is not what its name says.
func checkStore(t *testing.T, store string) {
	t.Helper()
	if out, err := exec.Command("peel", "--root", store, "images").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	blobs, err := filepath.Glob(filepath.Join(store, "images", "blobs", "sha256", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range blobs {
		b, err := os.ReadFile(path)
		if got := digest.FromBytes(b).Encoded(); err != nil || got != filepath.Base(path) {
			t.Fatal(fmt.Errorf("%s holds %s: %w", path, got, err))
		}
	}
}
