package vm

import (
	"bytes"
	"context"
	"errors"
	"flag"
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
	// run are the tests, all where it is empty, by a pattern of go test.
	run string
	// shown must not be skipped: they are what the machine is for.
	shown []string
}

var suites = []suite{
	{
		// What a kernel has a part in. The other tests say nothing here that they
		// do not say elsewhere, in a tenth of the time.
		pkg: "pkg/run",
		run: `^Test(ASetUp|AKilledMonitor|AUser(Limits|Among)|ChangesOfAnOverlay|ContainersOfAnImage|Devices|Exec|JoiningGives|LifeOf|Limits|` +
			`MasksAre|NoMoreProcesses|OwnBinary|RootRuns|Terminals|TimeNamespace|Usage|UsersRun|WhoTakes|WitnessesSee|.*(AppArmor|Cgroups|Label))`,
		shown: []string{
			"TestLimitsReachTheKernel", "TestWhoTakesTooMuchMemoryIsSaidToHave", "TestDevicesAreOpenedByRule", "TestExecIsInTheContainersCgroups",
			"TestUsageOfAContainer", "TestWitnessesSeeTheSameFromInside", "TestAUserLimitsWhatIsDelegated",
			"TestAUserAmongProcessesOfHisCgroupIsToldSo", "TestAppArmorHoldsWhatNothingElseDoes", "TestExecHasTheAppArmorProfileToo",
		},
	},
	{pkg: "pkg/run/internal/mountfd"},
	{pkg: "pkg/explain"},
	{pkg: "cmd/peel", run: "^TestScripts$/^(run|labels|usage)$", shown: []string{"TestScripts/run", "TestScripts/labels", "TestScripts/usage"}},
}

// TestInVM is cgroup version 2 and AppArmor, on an older kernel.
func TestInVM(t *testing.T) {
	runInside(t, suites, nil)
}

// TestInVMWithSELinux boots the same kernel with SELinux in AppArmor's place.
func TestInVMWithSELinux(t *testing.T) {
	if _, err := exec.LookPath("secilc"); err != nil {
		t.Skip("SKIPPED: this machine lacks secilc (e2e/setup.sh, as root, installs what the tests need)")
	}
	only := []suite{{pkg: "pkg/run", run: "^Test.*SELinux", shown: []string{"TestSELinuxLabelsArePutOn"}}}
	runInside(t, only, func(m *Machine) {
		m.Boot = []string{"security=selinux"}
		cmd := exec.CommandContext(t.Context(), "secilc", "-M", "false", "-c", "33", "-f", os.DevNull, "-o", filepath.Join(m.Tree, "vm/selinux.policy"), "testdata/selinux.cil")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("secilc: %v: %s", err, out)
		}
	})
}

// runInside runs the tests of packages in a machine, which change changes before.
func runInside(t *testing.T, suites []suite, change func(*Machine)) {
	t.Helper()
	k := need(t)
	dir := t.TempDir()
	m := &Machine{Kernel: k, Init: filepath.Join(dir, "init"), Tree: filepath.Join(dir, "tree"), Console: filepath.Join(dir, "console")}
	build(t, "build", "-o", m.Init, "./e2e/vm/init")
	var jobs []job.Job
	outputs := map[string]*bytes.Buffer{}
	for _, s := range suites {
		jobs = append(jobs, s.job(t, m.Tree))
		outputs[s.pkg] = &bytes.Buffer{}
	}
	furnish(t, m.Tree)
	if change != nil {
		change(m)
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

// job builds the tests of a package into the tree.
func (s *suite) job(t *testing.T, tree string) job.Job {
	t.Helper()
	run := s.run
	if *inside != "" {
		run = *inside
	}
	name := strings.ReplaceAll(s.pkg, "/", "-")
	build(t, "test", "-c", "-ldflags=-s -w", "-o", filepath.Join(tree, "vm", name), "./"+s.pkg)
	dir := filepath.Join("vm/src", s.pkg)
	if err := os.MkdirAll(filepath.Join(tree, dir), 0o755); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join("../..", s.pkg, "testdata")
	if _, err := os.Stat(data); err == nil {
		if err := os.CopyFS(filepath.Join(tree, dir, "testdata"), os.DirFS(data)); err != nil {
			t.Fatal(err)
		}
	}
	return job.Job{
		Name: s.pkg, Dir: "/" + dir, Env: []string{"PEEL_TEST_PROBE=/vm/probe"},
		Args: []string{"/vm/" + name, "-test.v=test2json", "-test.timeout=10m", "-test.run=" + run},
	}
}

// furnish puts into the tree what tests expect of a machine.
func furnish(t *testing.T, tree string) {
	t.Helper()
	build(t, "build", "-ldflags=-s -w", "-o", filepath.Join(tree, "vm/probe"), "./pkg/run/testdata/probe")
	for _, p := range []string{"cat", "find", "grep", "ls", "mkdir", "rm", "sh", "sleep", "sort", "stat", "true", "wc", "runc", "crun"} {
		path, err := exec.LookPath(p)
		if err != nil {
			t.Logf("SKIPPED: no %s to compare with", p)
			continue
		}
		if err := AddProgram(tree, path); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(tree, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"passwd": "root:x:0:0:root:/root:/bin/sh\n", "group": "root:x:0:\n", "hosts": "127.0.0.1 localhost\n", "hostname": "vm\n",
	} {
		if err := os.WriteFile(filepath.Join(tree, "etc", name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
