package seccomp

import (
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestRefusedCallsAreNamed(t *testing.T) {
	errno, allow := specs.ActErrno, specs.ActAllow
	arg := []specs.LinuxSeccompArg{{Index: 0, Value: 8, Op: specs.OpEqualTo}}
	entry := func(action specs.LinuxSeccompAction, args []specs.LinuxSeccompArg, names ...string) specs.LinuxSyscall {
		return specs.LinuxSyscall{Names: names, Action: action, Args: args}
	}
	all := lookupArch(specs.ArchX86_64).names
	allBut := func(names ...string) string {
		return strings.Join(slices.DeleteFunc(slices.Clone(all), func(n string) bool { return n == "" || slices.Contains(names, n) }), " ")
	}
	for _, c := range []struct {
		name              string
		profile           *specs.LinuxSeccomp
		always, sometimes string
	}{
		{"no profile", nil, "", ""},
		{"all is allowed", &specs.LinuxSeccomp{DefaultAction: allow}, "", ""},
		{"all but some", &specs.LinuxSeccomp{DefaultAction: allow, Syscalls: []specs.LinuxSyscall{entry(errno, nil, "mount", "bpf"), entry(errno, arg, "personality")}}, "mount bpf", "personality"},
		{"a call of another machine", &specs.LinuxSeccomp{DefaultAction: allow, Syscalls: []specs.LinuxSyscall{entry(errno, nil, "s390_runtime_instr")}}, "", ""},
		{"logging is no refusal", &specs.LinuxSeccomp{DefaultAction: specs.ActLog}, "", ""},
		{"none but some", &specs.LinuxSeccomp{DefaultAction: specs.ActKillProcess, Syscalls: []specs.LinuxSyscall{entry(allow, nil, "read"), entry(allow, arg, "personality")}}, allBut("read", "personality"), "personality"},
		{"the unconditional rule counts", &specs.LinuxSeccomp{DefaultAction: errno, Syscalls: []specs.LinuxSyscall{entry(allow, arg, "read"), entry(allow, nil, "read")}}, allBut("read"), ""},
	} {
		always, sometimes, err := refusedFor(c.profile, "amd64")
		if a, s := strings.Join(always, " "), strings.Join(sometimes, " "); a != c.always || s != c.sometimes || err != nil {
			t.Errorf("%s: refused %q, by arguments %q, %v", c.name, a, s, err)
		}
	}
}
