package run

import (
	"strings"
	"testing"

	"peel/pkg/bundle"
)

func TestExitCodeIsTheProgramsOwn(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, nil)
	for _, c := range []struct {
		name   string
		args   []string
		code   int
		stdout string
	}{
		{"zero", []string{"exit", "0"}, 0, ""},
		{"its own number", []string{"exit", "42"}, 42, ""},
		{"output is untouched", []string{"print", "hello"}, 0, "hello\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := runOnce(t, rt, root, probeSpec(t, c.args...), CreateOptions{})
			if r.err != nil || r.code != c.code || r.stdout != c.stdout {
				t.Errorf("got %+v, want code %d and output %q", r, c.code, c.stdout)
			}
		})
	}
}

// Our own programs have more threads than the container may have processes.
func TestASingleProcessIsEnough(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, map[string]string{"bin/text": "not a program\n"})
	for range 5 {
		one := bundle.Wishes{Limits: bundle.Limits{Pids: 1}}
		s := probeSpec(t)
		if err := one.Apply(s); err != nil {
			t.Fatal(err)
		}
		s.Process.Args = []string{"/bin/text"}
		if r := runOnce(t, rt, root, s, CreateOptions{}); ExitCode(r.err) != 126 || !strings.Contains(r.err.Error(), "without a #! line") {
			t.Errorf("%+v: %v", r, r.err)
		}
	}
}
