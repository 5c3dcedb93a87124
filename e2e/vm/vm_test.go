package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"peel/e2e/images"
	"peel/e2e/vm/job"
)

// limit is for the whole machine. Emulated, it takes some two minutes where
// nothing else runs.
const limit = 15 * time.Minute

// inside limits what runs, for who works on one thing.
var inside = flag.String("inside", "", "run only the tests inside the machine that match this `pattern`")

// need skips what this machine cannot do.
func need(t *testing.T) *Kernel {
	t.Helper()
	skip := func(missing string) {
		t.Skipf("SKIPPED: this machine lacks %s (e2e/setup.sh, as root, installs what the tests need)", missing)
	}
	if runtime.GOARCH != "amd64" {
		t.Skip("SKIPPED: the virtual machine is an amd64 one")
	}
	if list := Missing(); len(list) > 0 {
		skip(strings.Join(list, ", "))
	}
	k, err := FindKernel(t.Context(), filepath.Join(images.FromEnv().Dir, "kernels"))
	if errors.Is(err, ErrNoKernel) {
		skip("a kernel for it: " + err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("kernel %s", k.Package)
	return k
}

// build builds a program or a test, without cgo as everything of peel.
func build(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// suite is a package whose tests run inside.
type suite struct {
	pkg string
	// skip are tests that say nothing here that they do not say elsewhere, and
	// take long, by a pattern of go test.
	skip string
	// shown must not be skipped: it is what the machine is for.
	shown []string
}

var suites = []suite{
	{
		pkg: "pkg/run", skip: `^Test(WitnessesRefuseTheSameCalls|ManyContainersAtOnce.*|SwappedDestinations.*|VeryLongConfigs.*|UserStrings.*|PasswdFiles.*|WorkingDirectoryCannot.*)$`,
		shown: []string{
			"TestLimitsReachTheKernel", "TestWhoTakesTooMuchMemoryIsSaidToHave", "TestDevicesAreOpenedByRule", "TestExecIsInTheContainersCgroups",
			"TestUsageOfAContainer", "TestWitnessesSeeTheSameFromInside", "TestAUserLimitsWhatIsDelegated",
			"TestAUserAmongProcessesOfHisCgroupIsToldSo", "TestAppArmorHoldsWhatNothingElseDoes", "TestExecHasTheAppArmorProfileToo",
		},
	},
	{pkg: "pkg/run/internal/mountfd"},
	{pkg: "pkg/explain"},
}

func TestInVM(t *testing.T) {
	k := need(t)
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	m := &Machine{Kernel: k, Init: filepath.Join(dir, "init"), Tree: tree, Console: filepath.Join(dir, "console")}
	build(t, "build", "-o", m.Init, "./e2e/vm/init")
	build(t, "build", "-ldflags=-s -w", "-o", filepath.Join(tree, "vm/probe"), "./pkg/run/testdata/probe")
	build(t, "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(tree, "usr/bin/peel"), "./cmd/peel")
	var jobs []job.Job
	outputs := map[string]*bytes.Buffer{}
	for _, s := range suites {
		name := strings.ReplaceAll(s.pkg, "/", "-")
		build(t, "test", "-c", "-ldflags=-s -w", "-o", filepath.Join(tree, "vm", name), "./"+s.pkg)
		jobs = append(jobs, job.Job{
			Name: s.pkg, Dir: filepath.Join("/vm/src", s.pkg), Env: []string{"PEEL_TEST_PROBE=/vm/probe"},
			Args: []string{"/vm/" + name, "-test.v=test2json", "-test.timeout=10m", "-test.run=" + *inside, "-test.skip=" + s.skip},
		})
		outputs[s.pkg] = &bytes.Buffer{}
		if err := os.MkdirAll(filepath.Join(tree, "vm/src", s.pkg), 0o755); err != nil {
			t.Fatal(err)
		}
		data := filepath.Join("../..", s.pkg, "testdata")
		if _, err := os.Stat(data); err == nil {
			if err := os.CopyFS(filepath.Join(tree, "vm/src", s.pkg, "testdata"), os.DirFS(data)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, p := range []string{"true", "sh", "sleep", "runc", "crun"} {
		path, err := exec.LookPath(p)
		if err != nil {
			t.Logf("SKIPPED: no %s to compare with", p)
			continue
		}
		if err := AddProgram(tree, path); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/group": "root:x:0:\n",
		"etc/hosts": "127.0.0.1 localhost\n", "etc/hostname": "vm\n",
	} {
		if err := os.MkdirAll(filepath.Join(tree, "etc"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(tree, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	codes := map[string]int{}
	err := m.Run(ctx, dir, jobs, func(e job.Event) {
		outputs[e.Job].WriteString(e.Output)
		if *inside != "" {
			t.Log(strings.TrimRight(e.Output, "\n"))
		}
		if e.Ended {
			codes[e.Job] = e.Code
		}
	})
	if err != nil {
		console, _ := os.ReadFile(m.Console)
		t.Errorf("%v\nthe end of the console:\n%s", err, console[max(0, len(console)-4000):])
	}
	for _, s := range suites {
		t.Run(s.pkg, func(t *testing.T) { s.report(t, outputs[s.pkg], codes[s.pkg]) })
	}
}

// event is what test2json says of a test.
type event struct {
	Action, Test, Output string
	Elapsed              float64
}

// report makes the results of the machine's tests those of subtests here.
func (s *suite) report(t *testing.T, out *bytes.Buffer, code int) {
	cmd := exec.CommandContext(t.Context(), "go", "tool", "test2json", "-t") // -t for Elapsed
	cmd.Stdin = bytes.NewReader(out.Bytes())
	converted, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]*strings.Builder{}
	results := map[string]event{}
	var order []string
	for dec := json.NewDecoder(bytes.NewReader(converted)); ; {
		var e event
		if err := dec.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(e.Test, "/")
		switch e.Action {
		case "run":
			if name == e.Test {
				order = append(order, name)
			}
		case "output":
			if said[name] == nil {
				said[name] = &strings.Builder{}
			}
			said[name].WriteString(e.Output)
		case "pass", "fail", "skip":
			if name == e.Test && name != "" {
				results[name] = e
			}
		}
	}
	for _, name := range order {
		t.Run(name, func(t *testing.T) {
			r, ended := results[name]
			switch {
			case !ended:
				t.Errorf("has not ended\n%s", said[name])
			case r.Action == "fail":
				t.Errorf("in the machine:\n%s", said[name])
			case r.Action == "skip":
				for _, must := range s.shown {
					if must == name {
						t.Errorf("must not be skipped here:\n%s", said[name])
					}
				}
				t.Skip(said[name])
			default:
				t.Logf("%.1f s in the machine", r.Elapsed)
			}
		})
	}
	for _, must := range s.shown {
		if _, ok := results[must]; !ok && *inside == "" {
			t.Errorf("%s is not there", must)
		}
	}
	if code != 0 || len(order) == 0 && *inside == "" {
		var rest fmt.Stringer = &strings.Builder{}
		if said[""] != nil {
			rest = said[""]
		}
		t.Errorf("exit code %d, %d tests\n%s", code, len(order), rest)
	}
}
