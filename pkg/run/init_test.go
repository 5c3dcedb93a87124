package run

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestAnInitDoesWhatFirstProcessesMust(t *testing.T) {
	needRoot(t)
	firstProcess(t, func(t *testing.T, args ...string) *specs.Spec { return probeSpec(t, args...) })
	refusals(t)
}

func TestAUsersInitDoesToo(t *testing.T) {
	if !asUser(t) {
		return
	}
	needUserNamespaces(t)
	firstProcess(t, userSpec)
}

// withLoader gives a container what the test's own program, which is its init, is
// linked with; peel itself is static.
func withLoader(s *specs.Spec) *specs.Spec {
	for _, dir := range []string{"/lib", "/lib64", "/usr/lib"} {
		if _, err := os.Stat(dir); err == nil {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: dir, Type: "bind", Source: dir, Options: []string{"rbind", "ro"}})
		}
	}
	return s
}

func firstProcess(t *testing.T, spec func(*testing.T, ...string) *specs.Spec) {
	rt := newRuntime(t)
	root := newRootfs(t, map[string]string{"bin/works": "#!/bin/probe print\n"})
	for _, c := range []struct {
		name string
		args []string
		want result
	}{
		{"its exit code is the program's", []string{"/bin/probe", "exit", "7"}, result{code: 7}},
		{"a death by signal is, too", []string{"/bin/probe", "die", "15"}, result{code: 143}},
		{"the dead are buried", []string{"/bin/probe", "abandon", "5"}, result{stdout: "buried\n"}},
		{"the program has no more than its descriptors", []string{"/bin/probe", "fds"}, result{stdout: "0 1 2\n"}},
		{"nor has the init, when it has started it", []string{"/bin/probe", "three", "/proc/1/fd"}, result{stdout: "0\n1\n2\n"}},
		{"a program is found", []string{"probe", "print", "found"}, result{stdout: "found\n"}},
		{"a script works", []string{"/bin/works"}, result{stdout: "/bin/works\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := withLoader(spec(t))
			s.Process.Args = c.args
			if r := runOnce(t, rt, root, s, CreateOptions{Init: true}); r != c.want {
				t.Errorf("%+v, want %+v", r, c.want)
			}
		})
	}
	initPassesSignalsOn(t, rt, root, spec)
}

func refusals(t *testing.T) {
	rt := newRuntime(t)
	root := newRootfs(t, map[string]string{"bin/text": "not a program\n", "bin/script": "#!/bin/none\n", "bin/crlf": "#!/bin/probe\r\n", "bin/dir/": ""})
	for _, c := range []struct {
		program string
		code    int
		why     string
	}{
		{"/none", 127, "exec /none: no such file"},
		{"none", 127, "not found in $PATH"},
		{"/bin/dir", 126, "is a directory"},
		{"/bin/script", 127, "its interpreter /bin/none: no such file"},
		{"/bin/crlf", 127, "ends in CRLF"},
	} {
		t.Run(c.program+" is refused", func(t *testing.T) {
			s := withLoader(probeSpec(t))
			s.Process.Args = []string{c.program}
			if r := runOnce(t, rt, root, s, CreateOptions{Init: true}); ExitCode(r.err) != c.code || !strings.Contains(r.err.Error(), c.why) {
				t.Errorf("%+v", r)
			}
		})
	}
	// What only the kernel knows, the init says itself.
	s := withLoader(probeSpec(t))
	s.Process.Args = []string{"/bin/text"}
	if r := runOnce(t, rt, root, s, CreateOptions{Init: true}); r.code != 126 || r.stderr != "peel: exec /bin/text: exec format error\n" {
		t.Errorf("a text file: %+v", r)
	}
}

func initPassesSignalsOn(t *testing.T, rt *Runtime, root string, spec func(*testing.T, ...string) *specs.Spec) {
	c, err := rt.Create(t.Context(), Rootfs{Dir: root}, withLoader(spec(t, "wait")), CreateOptions{Init: true})
	if err == nil {
		err = c.StartDetached()
	}
	if err != nil {
		t.Fatal(err)
	}
	waitForLine(t, c, "ready")
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", status(t, c).Pid))
	if want := "peel-init\x00/bin/probe\x00/bin/probe\x00wait\x00"; err != nil || string(b) != want {
		t.Errorf("the first process is %q, %v", b, err)
	}
	if err := c.Stop(t.Context(), time.Minute); err != nil || status(t, c).Code != 42 {
		t.Errorf("%v, %+v", err, status(t, c))
	}
}

func TestTheTerminalOfAnInitIsItsPrograms(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	s := withLoader(probeSpec(t, "foreground"))
	s.Process.Terminal = true
	c, err := rt.Create(t.Context(), Rootfs{Dir: newRootfs(t, nil)}, s, CreateOptions{Init: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.StartDetached(); err != nil {
		t.Fatal(err)
	}
	waitForLine(t, c, "true")
}

// The init is as much as its program, and no more. What it was executed from cannot
// be changed by one who may do everything to it (CVE-2019-5736): not its mode, and
// so not its content when nobody executes it any more, which alone is refused now.
func TestAnInitIsConfinedAndSafe(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, nil)
	for _, key := range []string{"Uid:", "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:", "Seccomp:", "Groups:"} {
		s := withLoader(probeSpec(t, "cat", "/proc/1/status", "/proc/self/status"))
		s.Process.User.UID = 33
		r := runOnce(t, rt, root, s, CreateOptions{Init: true})
		var lines []string
		for line := range strings.Lines(r.stdout) {
			if strings.HasPrefix(line, key) {
				lines = append(lines, line)
			}
		}
		if len(lines) != 2 || lines[0] != lines[1] {
			t.Errorf("%s %q, %+v", key, lines, r.err)
		}
	}
	for _, more := range [][]string{nil, {"CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"}} {
		s := withLoader(probeSpec(t, "chmod", "/proc/1/exe"))
		caps := s.Process.Capabilities
		caps.Bounding = append(slices.Clone(caps.Bounding), more...)
		caps.Effective, caps.Permitted = caps.Bounding, caps.Bounding
		for _, detached := range []bool{false, true} {
			out := ""
			if detached {
				c, err := rt.Create(t.Context(), Rootfs{Dir: root}, s, CreateOptions{Init: true})
				if err == nil {
					err = c.StartDetached()
				}
				if err != nil {
					t.Fatal(err)
				}
				if err := c.Logs(t.Context(), LogOptions{Follow: true}, func(e LogEntry) error { out += e.Text; return nil }); err != nil {
					t.Fatal(err)
				}
			} else {
				out = runOnce(t, rt, root, s, CreateOptions{Init: true}).stderr
			}
			if out != "chmod /proc/1/exe: read-only file system\n" {
				t.Errorf("capabilities %v, detached %v: %s", more, detached, out)
			}
		}
	}
	s := withLoader(probeSpec(t, "exit", "0"))
	s.Mounts = slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == "/proc" })
	s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil
	if r := runOnce(t, rt, root, s, CreateOptions{Init: true}); r.err == nil || !strings.Contains(r.err.Error(), "no /proc to start it by") {
		t.Errorf("without /proc: %+v", r)
	}
}
