package main

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

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

// TestKilledAtRandomMoments kills `peel unpack` of an image that it has to fetch at
// hundreds of moments, on an empty store and on what the last one left, and runs the
// same command again: the result is right, and after `peel prune` nothing is left
// beside it. PEEL_KILLS asks for another number of them.
func TestKilledAtRandomMoments(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: owners need root")
	}
	t.Setenv(raceEnv, raceQuick) // or most are killed in that sleep
	kills := 200
	if testing.Short() {
		kills = 20
	}
	if s := os.Getenv("PEEL_KILLS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		kills = n
	}
	r := newFakeRegistry(t)
	random := rand.NewChaCha8([32]byte{})
	noise := make([]byte, 3<<19)
	random.Read(noise)
	var many []string
	for i := range 400 {
		many = append(many, fmt.Sprintf("d%d/f%d=%d", i%7, i, i))
	}
	r.image("web:latest", []typed{
		layer(gzipLayer, append([]string{"a/", "a/noise=" + string(noise), "gone=1"}, many...)...),
		layer(zstdLayer, append([]string{"a/.wh.none=", ".wh.gone=", "d3/.wh..wh..opq="}, many[:300]...)...),
		layer(tarLayer, "b="+string(noise[:1<<19])),
	}, nil)
	dir, err := os.MkdirTemp("/dev/shm", "peel-kill-") // hundreds of trees come and go
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	unpack := func(store, target string) *exec.Cmd {
		return exec.Command("peel", "--root", store, "unpack", "-q", r.host()+"/web", target)
	}
	result := func(target string) digest.Digest {
		t.Helper()
		archive, err := exec.Command("peel", "export", target).Output()
		if err != nil {
			t.Fatal(err)
		}
		return digest.FromBytes(archive)
	}
	store, target := filepath.Join(dir, "store"), filepath.Join(dir, "web")
	mustRun(t, unpack(store, target)) // from here on, programs and files are in the page cache
	want := result(target)
	var took time.Duration
	dice := rand.New(random)
	midway := 0
	for i := range kills {
		if err := os.RemoveAll(target); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			if err := os.RemoveAll(store); err != nil {
				t.Fatal(err)
			}
		}
		cmd := unpack(store, target)
		began := time.Now()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		end := time.AfterFunc(time.Hour, func() { cmd.Process.Kill() })
		if took > 0 {
			end.Reset(time.Duration(dice.Int64N(int64(took))))
		}
		err := cmd.Wait()
		end.Stop()
		if err == nil {
			took = max(time.Since(began), took*9/10)
		}
		if _, err := os.Lstat(target); err == nil {
			if got := result(target); got != want {
				t.Fatalf("kill %d: DIR is there, and wrong", i)
			}
			continue
		}
		midway++
		if _, err := os.Lstat(store); err == nil {
			checkStore(t, store)
		}
		mustRun(t, unpack(store, target))
		if got := result(target); got != want {
			t.Fatalf("kill %d: the same command again gives another result", i)
		}
		mustRun(t, exec.Command("peel", "--root", store, "prune"))
		if left, _ := filepath.Glob(filepath.Join(store, "images", "ingest", "*")); len(left) > 0 {
			t.Fatalf("kill %d: after prune: %v", i, left)
		}
		if names := namesOf(t, dir); !slices.Equal(names, []string{"store", "web"}) {
			t.Fatalf("kill %d: left behind: %v", i, names)
		}
	}
	t.Logf("%d of %d were killed before DIR was there", midway, kills)
	if midway < kills/3 {
		t.Errorf("only %d of %d were killed before DIR was there: this says little", midway, kills)
	}
}

func mustRun(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", cmd, err, out)
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
