package run

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"peel/pkg/run/internal/apparmor"
)

// elfHeader is the start of a program for a machine, with a loader if one is
// named.
func elfHeader(machine elf.Machine, loader string) string {
	b := make([]byte, 64+56)
	copy(b, "\x7fELF\x02\x01\x01")
	le := binary.LittleEndian
	le.PutUint16(b[16:], uint16(elf.ET_DYN))
	le.PutUint16(b[18:], uint16(machine))
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[32:], 64) // program headers
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 1)
	if loader != "" {
		le.PutUint32(b[64:], uint32(elf.PT_INTERP))
		le.PutUint64(b[64+8:], uint64(len(b)))
		le.PutUint64(b[64+32:], uint64(len(loader)+1))
		b = append(append(b, loader...), 0)
	}
	return string(b)
}

func TestWhyAProgramCannotStart(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, map[string]string{
		"bin/script":       "#!/bin/nosuchshell\necho hi\n",
		"bin/crlf":         "#!/bin/probe\r\necho hi\r\n",
		"bin/noshebang":    "echo hi\n",
		"bin/emptyshebang": "#!\n",
		"bin/empty":        "",
		"bin/data":         "\x00\x01\x02\x03",
		"bin/dynamic":      elfHeader(elf.EM_X86_64, "/lib64/ld-linux-x86-64.so.2"),
		"bin/foreign":      elfHeader(elf.EM_S390, ""),
		"bin/loop":         "-> loop",
		"bin/dangling":     "-> /no/such",
		"bin/plain":        "#!/bin/probe print\n",
		"bin/secret":       "#!/bin/probe print\n",
		"bin/dir/":         "",
	})
	if err := os.Chmod(filepath.Join(root, "bin/plain"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(root, "bin/secret"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		prog string
		user uint32
		code int
		says string
	}{
		{"no such file", "/bin/nothing", 0, 127, "no such file"},
		{"not in PATH", "nothing", 0, 127, "executable file not found in $PATH"},
		{"the interpreter of the script is missing", "/bin/script", 0, 127, "interpreter /bin/nosuchshell"},
		{"Windows line ends", "/bin/crlf", 0, 127, "CRLF"},
		{"text without a first line", "/bin/noshebang", 0, 126, "without a #! line"},
		{"a #! line without an interpreter", "/bin/emptyshebang", 0, 126, "names no interpreter"},
		{"an empty file", "/bin/empty", 0, 126, "empty"},
		{"no program at all", "/bin/data", 0, 126, "neither ELF nor #!"},
		{"the loader is missing", "/bin/dynamic", 0, 127, "loader /lib64/ld-linux-x86-64.so.2"},
		{"another machine's program", "/bin/foreign", 0, 126, "for s390x"},
		{"a link to itself", "/bin/loop", 0, 126, "loop of symbolic links"},
		{"a link to nothing", "/bin/dangling", 0, 127, "no such file"},
		{"no execute bit", "/bin/plain", 0, 126, "no execute bit"},
		{"no execute bit, found in PATH", "plain", 0, 126, "not executable"},
		{"not for this user", "/bin/secret", 1000, 126, "not executable by user 1000"},
		{"a directory", "/bin/dir", 0, 126, "is a directory"},
		{"noexec", "/shm/probe", 0, 126, "noexec"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := probeSpec(t)
			s.Process.Args = []string{c.prog}
			s.Process.User.UID = c.user
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/shm", Type: "bind", Source: filepath.Join(root, "bin"), Options: []string{"bind", "noexec"}})
			r := runOnce(t, rt, root, s, CreateOptions{})
			if got := ExitCode(r.err); got != c.code || !strings.Contains(r.err.Error(), c.says) {
				t.Errorf("exit code %d, want %d; error %q should say %q", got, c.code, r.err, c.says)
			}
			if c.code == 127 != errors.Is(r.err, fs.ErrNotExist) {
				t.Errorf("errors.Is(%q, fs.ErrNotExist) = %v", r.err, c.code != 127)
			}
		})
	}
}

func TestWhatCannotBeKeptIsRefused(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, nil)
	ns := func(list ...specs.LinuxNamespace) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Linux.Namespaces = list }
	}
	mnt := specs.LinuxNamespace{Type: specs.MountNamespace}
	for name, change := range map[string]func(*specs.Spec){
		"no mount namespace":   ns(specs.LinuxNamespace{Type: specs.PIDNamespace}),
		"a namespace twice":    ns(mnt, mnt),
		"an unknown namespace": ns(mnt, specs.LinuxNamespace{Type: "dream"}),
		"the host's name":      func(s *specs.Spec) { s.Hostname = "x"; s.Linux.Namespaces = []specs.LinuxNamespace{mnt} },
		"the host's sysctl":    func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"kernel.core_pattern": "|/x"} },
		"a sysctl with a path": func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"net/../kernel/core_pattern": "x"} },
		"the host's network sysctl": func(s *specs.Spec) {
			s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"}
			s.Linux.Namespaces = []specs.LinuxNamespace{mnt}
		},
		"a relative hook":              func(s *specs.Spec) { s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "bin/true"}}} },
		"a relative working directory": func(s *specs.Spec) { s.Process.Cwd = "srv" },
		"a relative destination":       func(s *specs.Spec) { s.Mounts[0].Destination = "proc" },
		"no command":                   func(s *specs.Spec) { s.Process.Args = nil },
		"a NUL byte":                   func(s *specs.Spec) { s.Process.Args = []string{"/bin/probe\x00x"} },
		"a user namespace without a map": func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		},
		"joining a user namespace": func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: "/proc/self/ns/user"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := probeSpec(t, "exit", "0")
			change(s)
			r := runOnce(t, rt, root, s, CreateOptions{})
			var unsupported *UnsupportedError
			if !errors.As(r.err, &unsupported) {
				t.Errorf("error %v, want an UnsupportedError", r.err)
			}
		})
	}
}

func TestASetUpThatFailsSaysWhatAndLeavesNothing(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, map[string]string{"file": "x"})
	noProfile, noLabel, noMountLabel := "process.apparmorProfile: this kernel does not use AppArmor", "process.selinuxLabel: this kernel", "linux.mountLabel: this kernel"
	if apparmor.Enabled() {
		noProfile = "AppArmor profile no-such-profile: the kernel has no profile of this name loaded"
	}
	if usesSELinux() {
		noLabel, noMountLabel = "SELinux label", "mount"
	}
	for name, c := range map[string]struct {
		change func(*specs.Spec)
		says   string
	}{
		"a source that is not there": {func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Type: "bind", Source: "/no/such", Options: []string{"bind"}})
		}, "/no/such"},
		"a bad tmpfs size": {func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Type: "tmpfs", Options: []string{"size=lots"}})
		}, "size"},
		"an unknown file system": {func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Type: "dreamfs"})
		}, "mount /x"},
		"a working directory that is a file": {func(s *specs.Spec) { s.Process.Cwd = "/file" }, "working directory /file"},
		"an unknown capability":              {func(s *specs.Spec) { s.Process.Capabilities.Bounding = []string{"CAP_FLY"} }, "CAP_FLY"},
		"an unknown limit":                   {func(s *specs.Spec) { s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_FUN"}} }, "RLIMIT_FUN"},
		"a profile of AppArmor without it":   {func(s *specs.Spec) { s.Process.ApparmorProfile = "no-such-profile" }, noProfile},
		"a label of SELinux without it":      {func(s *specs.Spec) { s.Process.SelinuxLabel = "system_u:system_r:no_such_t:s0" }, noLabel},
		"a label for mounts without it":      {func(s *specs.Spec) { s.Linux.MountLabel = "system_u:object_r:no_such_t:s0" }, noMountLabel},
		"a namespace of another kind": {func(s *specs.Spec) {
			joining(s, specs.NetworkNamespace, "/proc/self/ns/uts")
		}, "join namespace /proc/self/ns/uts"},
		"a namespace that is a file": {func(s *specs.Spec) { joining(s, specs.NetworkNamespace, "/etc/passwd") }, "join namespace /etc/passwd"},
	} {
		t.Run(name, func(t *testing.T) {
			s := probeSpec(t, "exit", "0")
			c.change(s)
			r := runOnce(t, rt, root, s, CreateOptions{})
			if r.err == nil || ExitCode(r.err) != 125 || !strings.Contains(r.err.Error(), c.says) {
				t.Errorf("error %v (exit code %d), want one that says %q, and 125", r.err, ExitCode(r.err), c.says)
			}
		})
	}
}
