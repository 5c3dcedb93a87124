package run

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// hookPlan makes a spec whose hooks tell a file what they see. code is what the hook
// of a name exits with.
func hookPlan(t *testing.T, log string, code map[string]int) *specs.Spec {
	t.Helper()
	bin, err := probe()
	if err != nil {
		t.Fatal(err)
	}
	ns, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	of := func(program, name string) []specs.Hook {
		h := func(name string) specs.Hook {
			return specs.Hook{Path: program, Args: []string{"probe", "hook", log, name, ns, fmt.Sprint(code[name])}, Env: []string{"A=" + name}}
		}
		return []specs.Hook{h(name), h(name + "2")}
	}
	s := probeSpec(t, "write", log, "program\n")
	s.Version = "1.0.2"
	s.Annotations = map[string]string{"key": "value"}
	s.Process.User.UID = 7
	s.Mounts = append(s.Mounts, specs.Mount{Destination: filepath.Dir(log), Type: "bind", Source: filepath.Dir(log), Options: []string{"bind"}})
	s.Hooks = &specs.Hooks{
		//lint:ignore SA1019 deprecated, and still to be called
		Prestart:        of(bin, "prestart"),
		CreateRuntime:   of(bin, "createRuntime"),
		CreateContainer: of(bin, "createContainer"),
		StartContainer:  of("/bin/probe", "startContainer"),
		Poststart:       of(bin, "poststart"),
		Poststop:        of(bin, "poststop"),
	}
	return s
}

// hookLog makes a file that everybody may write to.
func hookLog(t *testing.T) string {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	if err := errors.Join(os.Chmod(filepath.Dir(log), 0o777), os.WriteFile(log, nil, 0o666), os.Chmod(log, 0o666)); err != nil {
		t.Fatal(err)
	}
	return log
}

// told are the lines of the log. The program runs beside poststart: it comes last.
func told(t *testing.T, log string) []string {
	t.Helper()
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if i := slices.Index(lines, "program"); i >= 0 {
		lines = append(slices.Delete(lines, i, i+1), "program")
	}
	return lines
}

// Every hook runs at its time, in its place and with what it is told, as under runc;
// and one that fails has the same consequences.
func TestHooksRunAsUnderRunc(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	_, err := exec.LookPath("runc")
	if err != nil {
		t.Log("SKIPPED: no runc to compare with")
	}
	compare := err == nil
	for _, fails := range []string{"", "prestart", "createRuntime2", "createContainer", "startContainer", "poststart", "poststop"} {
		t.Run("failing: "+fails, func(t *testing.T) {
			root := newRootfs(t, nil)
			log := hookLog(t)
			s := hookPlan(t, log, map[string]int{fails: 3})
			r := runOnce(t, rt, root, s, CreateOptions{Bundle: filepath.Dir(root)})
			ours := told(t, log)
			if fine := fails == "" || fails == "poststop"; fine != (r.err == nil) {
				t.Errorf("%+v: %v", r, r.err)
			}
			if r.err != nil && (!strings.Contains(r.err.Error(), "exit status 3") || !strings.Contains(r.err.Error(), "said by "+fails)) {
				t.Errorf("the error does not say what failed: %v", r.err)
			}
			var order []string
			for _, l := range ours {
				name, _, _ := strings.Cut(l, " ")
				order = append(order, name)
			}
			const all = "prestart prestart2 createRuntime createRuntime2 createContainer createContainer2 startContainer startContainer2 poststart poststart2 poststop poststop2 program"
			if got := strings.Join(order, " "); fails == "" && got != all {
				t.Errorf("in the order %s, want %s", got, all)
			}
			if !compare {
				return
			}
			if err := os.Truncate(log, 0); err != nil {
				t.Fatal(err)
			}
			writeConfig(t, root, s)
			cmd := exec.Command("runc", "--root", t.TempDir(), "run", fmt.Sprintf("peel-hooks-%d", os.Getpid()))
			cmd.Dir = filepath.Dir(root)
			out, err := cmd.CombinedOutput()
			if (err == nil) != (r.err == nil) {
				t.Errorf("runc: %v: %s; peel: %v", err, out, r.err)
			}
			theirs := told(t, log)
			ours, theirs = comparable(ours, fails), comparable(theirs, fails)
			if !slices.Equal(ours, theirs) {
				t.Errorf("peel:\n%s\nrunc:\n%s", strings.Join(ours, "\n"), strings.Join(theirs, "\n"))
			}
		})
	}
}

// comparable leaves out what differs from runc 1.1 for a reason.
func comparable(lines []string, fails string) []string {
	var out []string
	for _, l := range lines {
		name, _, _ := strings.Cut(l, " ")
		switch {
		case strings.HasPrefix(name, "poststart") && fails == "startContainer":
			// runc lets them run before the program, and so before this.
		case strings.HasPrefix(name, "poststart"):
			// For the same reason it calls the container created.
			out = append(out, strings.Replace(l, "running", "created", 1))
		case name == "startContainer" || name == "startContainer2" || name == "program":
			// And whether these come before the end is chance there.
			if fails != "poststart" {
				out = append(out, l)
			}
		case name == "poststop2" && fails == "poststop":
			// runc ends at the first that fails, where the specification goes on.
		default:
			out = append(out, l)
		}
	}
	slices.Sort(out)
	return out
}

func TestHooksHaveATimeToEnd(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, nil)
	bin, err := probe()
	if err != nil {
		t.Fatal(err)
	}
	one := 1
	s := probeSpec(t, "print", "ran")
	s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: bin, Args: []string{"probe", "hang"}, Timeout: &one}}}
	if r := runOnce(t, rt, root, s, CreateOptions{}); r.err == nil || !strings.Contains(r.err.Error(), "not done after 1 seconds") {
		t.Errorf("%+v: %v", r, r.err)
	}
	// A hook after the end is only warned of, and a monitor keeps the warning.
	s = probeSpec(t, "print", "ran")
	s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "/no/such/hook"}}}
	c, err := rt.Create(t.Context(), Rootfs{Dir: root}, s, CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.StartDetached(); err != nil {
		t.Fatal(err)
	}
	if code, err := c.Wait(t.Context()); code != 0 || err != nil {
		t.Errorf("%d, %v", code, err)
	}
	if st := status(t, c); len(st.Warnings) != 1 || !strings.Contains(st.Warnings[0], "/no/such/hook") {
		t.Errorf("%+v", st)
	}
}

func TestHooksThatCannotBeMeantAreRefused(t *testing.T) {
	zero := 0
	for name, h := range map[string]specs.Hook{
		"a relative path": {Path: "bin/x"}, "no path": {}, "no time": {Path: "/x", Timeout: &zero}, "a NUL": {Path: "/x", Args: []string{"a\x00b"}},
	} {
		s := probeSpec(t, "exit", "0")
		s.Hooks = &specs.Hooks{Poststop: []specs.Hook{h}}
		var unsupported *UnsupportedError
		if err := validate(s); !errors.As(err, &unsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
