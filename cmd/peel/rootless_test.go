package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/rogpeppe/go-internal/testscript"

	testuser "peel/e2e/user"
)

// TestUserWithSubordinateIDs and TestUser are the scripts under testdata/rootless: peel as
// users type it who are not root.
//
//	$WANT          what root exports of the image owned:latest
//	[subordinate]  the user has subordinate ids
func TestUserWithSubordinateIDs(t *testing.T) { scriptsAs(t, testuser.Subordinate) }

func TestUser(t *testing.T) { scriptsAs(t, testuser.Plain) }

// sharedEnv is a directory that users can read: the source may lie where they cannot.
const sharedEnv = "PEEL_TEST_SHARED"

func scriptsAs(t *testing.T, kind testuser.Kind) {
	var env []string
	if os.Geteuid() == 0 {
		shared, err := os.MkdirTemp("", "peel-shared-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(shared) })
		exportAsRoot(t, filepath.Join(shared, "want.tar"))
		copyProbe(t, filepath.Join(shared, "probe"))
		if err := os.CopyFS(filepath.Join(shared, "scripts"), os.DirFS(filepath.Join("testdata", "rootless"))); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{".", "want.tar", "probe"} {
			if err := os.Chmod(filepath.Join(shared, name), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		env = []string{sharedEnv + "=" + shared}
	}
	if !testuser.Again(t, kind, env...) {
		return
	}
	shared := os.Getenv(sharedEnv)
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join(shared, "scripts"),
		Setup: func(e *testscript.Env) error {
			r := newFakeRegistry(t)
			r.publish()
			r.publishProbe(t, filepath.Join(shared, "probe"))
			e.Setenv("REGISTRY", r.host())
			e.Setenv("PEEL_ROOT", e.WorkDir+"/store")
			e.Setenv("HOME", e.WorkDir)
			e.Setenv(raceEnv, raceQuick)
			e.Setenv("WANT", filepath.Join(shared, "want.tar"))
			e.Setenv("UID", fmt.Sprint(testuser.ID))
			e.Defer(removeContainers(e, e.WorkDir+"/store"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
		Condition: func(cond string) (bool, error) {
			if cond == "subordinate" {
				return kind == testuser.Subordinate, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		RequireExplicitExec: true,
	})
}

// exportAsRoot writes what root unpacks and exports of owned:latest to a file.
func exportAsRoot(t *testing.T, file string) {
	t.Helper()
	r := newFakeRegistry(t)
	r.publish()
	dir := t.TempDir()
	for _, args := range [][]string{
		{"unpack", "--strict", r.host() + "/owned:latest", filepath.Join(dir, "d")}, {"export", "-o", file, filepath.Join(dir, "d")},
	} {
		cmd := exec.Command("peel", args...)
		cmd.Env = append(os.Environ(), "PEEL_ROOT="+filepath.Join(dir, "store"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
}

func copyProbe(t *testing.T, to string) {
	t.Helper()
	from, err := os.Open(buildProbe(t))
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	f, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(f, from); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestSignalsReachTheUserNamespace ends a peel that has its work done in a user
// namespace, while a blob stops arriving: whatever the signal, both end and nothing
// is left beside DIR.
func TestSignalsReachTheUserNamespace(t *testing.T) {
	if !testuser.Again(t, testuser.Subordinate) {
		return
	}
	r := newFakeRegistry(t)
	d := r.image("web:latest", []typed{layer(tarLayer, "a="+strings.Repeat("a", 1<<16))}, nil)
	parent := t.TempDir()
	stalled := make(chan struct{})
	stalling := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !strings.Contains(req.URL.Path, "/blobs/") || strings.Contains(req.URL.Path, d.Digest.Encoded()) {
			r.ServeHTTP(w, req)
			return
		}
		b := r.blobs[digest.Digest(path.Base(req.URL.Path))]
		w.Header().Set("Content-Length", fmt.Sprint(len(b)))
		if len(b) < 1<<15 { // the config
			w.Write(b)
			return
		}
		w.Write(b[:len(b)/2])
		w.(http.Flusher).Flush()
		for staged := []string{}; len(staged) == 0 && req.Context().Err() == nil; runtime.Gosched() {
			staged, _ = filepath.Glob(filepath.Join(parent, "*", ".peel-*"))
		}
		stalled <- struct{}{}
		<-req.Context().Done()
	}))
	defer stalling.Close()
	for _, c := range []struct {
		name string
		send func(pid int) error
		code int // -1: by the signal itself
	}{
		{"to the parent alone", func(pid int) error { return syscall.Kill(pid, syscall.SIGTERM) }, 143},
		{"from the terminal, to both", func(pid int) error { return syscall.Kill(-pid, syscall.SIGINT) }, 130},
		{"that cannot be caught", func(pid int) error { return syscall.Kill(pid, syscall.SIGKILL) }, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(parent, c.name)
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("peel", "--root", filepath.Join(dir, "store"), "unpack", strings.TrimPrefix(stalling.URL, "http://")+"/web", filepath.Join(dir, "web"))
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			stderr, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			<-stalled
			if err := c.send(cmd.Process.Pid); err != nil {
				t.Fatal(err)
			}
			said, err := io.ReadAll(stderr) // until nobody has the pipe any more
			if err != nil {
				t.Fatal(err)
			}
			err = cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != c.code || strings.Count(string(said), "peel: interrupted") != 1 {
				t.Errorf("%v, exit code %d: %s", err, code, said)
			}
			if left := namesOf(t, dir); !slices.Equal(left, []string{"store"}) {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func namesOf(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
