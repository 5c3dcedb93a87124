package run

import "testing"

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
