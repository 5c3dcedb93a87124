package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"peel/pkg/run"
)

func TestMain(m *testing.M) {
	run.Dispatch(findPrepared)
	testscript.Main(m, map[string]func(){"peel": main, mappedName: main})
}

// A program with the race detector sleeps for a second when it exits, unless told
// not to, and these tests run programs by the hundred.
const raceEnv, raceQuick = "GORACE", "atexit_sleep_ms=0"

// The scripts under testdata/script are peel as a user types it: what appears on
// stdout and stderr, the exit code, the files left behind.
//
//	$REGISTRY           a registry on loopback with the images of publish
//	exits CODE CMD...   runs CMD, which must end with CODE
//	requests            what the registry was asked since the last time, to stdout
//	spoil FILE          flips a bit in the middle of FILE
func TestScripts(t *testing.T) {
	var probe string
	if canRun() {
		probe = buildProbe(t)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			r := newFakeRegistry(t)
			r.publish()
			e.Values["registry"] = r
			e.Setenv("REGISTRY", r.host())
			e.Setenv("PEEL_ROOT", e.WorkDir+"/store")
			e.Setenv("HOME", e.WorkDir)
			e.Setenv(raceEnv, raceQuick)
			if probe != "" {
				r.publishProbe(t, probe)
				e.Defer(removeContainers(e, e.WorkDir+"/store"))
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":    exits,
			"requests": func(ts *testscript.TestScript, _ bool, _ []string) { writeRequests(ts) },
			"spoil":    spoil,
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return os.Geteuid() == 0, nil
			case "containers": // can run here
				return probe != "", nil
			case "apparmor": // confines what root runs
				return run.DefaultAppArmorProfile() != "", nil
			case "erofs": // prepared images can be mounted here
				return canMountImages(t), nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		RequireExplicitExec: true,
	})
}

// exits CODE COMMAND...: runs the command and demands the code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARG...]")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

func writeRequests(ts *testscript.TestScript) {
	if _, err := ts.Stdout().Write([]byte(ts.Value("registry").(*fakeRegistry).requests() + "\n")); err != nil {
		ts.Fatalf("%v", err)
	}
}

func spoil(ts *testscript.TestScript, neg bool, args []string) {
	path := ts.MkAbs(args[0])
	b, err := os.ReadFile(path)
	ts.Check(err)
	b[len(b)/2] ^= 1
	ts.Check(os.WriteFile(path, b, 0o600))
}
