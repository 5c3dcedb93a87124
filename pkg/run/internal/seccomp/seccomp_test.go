package seccomp

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	profiles "github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// run is the kernel's interpreter for the few instructions the compiler uses,
// written from the BPF documentation and not from the compiler.
func run(t *testing.T, prog []unix.SockFilter, audit, nr uint32, args [6]uint64) uint32 {
	t.Helper()
	var words [16]uint32
	words[0], words[1] = nr, audit
	for i, a := range args {
		words[4+2*i], words[5+2*i] = uint32(a), uint32(a>>32)
	}
	var acc uint32
	for pc := 0; ; pc++ {
		if pc >= len(prog) {
			t.Fatalf("program of %d instructions runs off its end", len(prog))
		}
		in := prog[pc]
		branch := func(taken bool) {
			if taken {
				pc += int(in.Jt)
			} else {
				pc += int(in.Jf)
			}
		}
		switch in.Code {
		case 0x20: // ld [k]
			acc = words[in.K/4]
		case 0x54: // and #k
			acc &= in.K
		case 0x05: // ja
			pc += int(in.K)
		case 0x15:
			branch(acc == in.K)
		case 0x25:
			branch(acc > in.K)
		case 0x35:
			branch(acc >= in.K)
		case 0x06:
			return in.K
		default:
			t.Fatalf("instruction %d: unknown code %#x", pc, in.Code)
		}
	}
}

// holds says in plain Go what an argument condition means.
func holds(a specs.LinuxSeccompArg, args [6]uint64, narrow bool) bool {
	v, want, two := args[a.Index], a.Value, a.ValueTwo
	if narrow {
		want, two = uint64(uint32(want)), uint64(uint32(two))
	}
	switch a.Op {
	case specs.OpNotEqual:
		return v != want
	case specs.OpLessThan:
		return v < want
	case specs.OpLessEqual:
		return v <= want
	case specs.OpEqualTo:
		return v == want
	case specs.OpGreaterEqual:
		return v >= want
	case specs.OpGreaterThan:
		return v > want
	case specs.OpMaskedEqual:
		return v&want == two
	}
	panic(a.Op)
}

func value(action specs.LinuxSeccompAction, errno *uint) uint32 {
	n := uint32(1)
	if errno != nil {
		n = uint32(*errno)
	}
	return map[specs.LinuxSeccompAction]uint32{
		specs.ActAllow: 0x7fff0000, specs.ActErrno: 0x00050000 | n, specs.ActKill: 0,
		specs.ActKillProcess: 0x80000000, specs.ActTrap: 0x00030000, specs.ActLog: 0x7ffc0000, specs.ActTrace: 0x7ff00000 | n,
	}[action]
}

// reference walks the profile as it is written: no tables by number, no tree.
func reference(p *specs.LinuxSeccomp, a *arch, number map[string]uint32, nr uint32, args [6]uint64) uint32 {
	named := func(c specs.LinuxSyscall) bool {
		for _, n := range c.Names {
			if got, ok := number[n]; ok && got == nr {
				return true
			}
		}
		return false
	}
	for _, c := range p.Syscalls {
		if named(c) && len(c.Args) == 0 {
			return value(c.Action, c.ErrnoRet)
		}
	}
	newest := int64(-1)
	for _, c := range p.Syscalls {
		for _, n := range c.Names {
			if got, ok := number[n]; ok && got < 0x0f0000 {
				newest = max(newest, int64(got))
			}
		}
		if !named(c) {
			continue
		}
		all, some, twice := true, false, false
		seen := map[uint]bool{}
		for _, arg := range c.Args {
			h := holds(arg, args, a.narrow)
			all, some, twice = all && h, some || h, twice || seen[arg.Index]
			seen[arg.Index] = true
		}
		if all || (twice && some) {
			return value(c.Action, c.ErrnoRet)
		}
	}
	if newest >= 0 && int64(nr) > newest && p.DefaultAction != specs.ActAllow {
		return 0x00050000 | uint32(unix.ENOSYS)
	}
	return value(p.DefaultAction, p.DefaultErrnoRet)
}

func dockerProfile(t testing.TB, caps ...string) *specs.LinuxSeccomp {
	t.Helper()
	p, err := profiles.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: caps}}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func arg(i uint, op specs.LinuxSeccompOperator, v, two uint64) specs.LinuxSeccompArg {
	return specs.LinuxSeccompArg{Index: i, Op: op, Value: v, ValueTwo: two}
}

func errno(n uint) *uint { return &n }

var everyOperator = &specs.LinuxSeccomp{
	DefaultAction: specs.ActErrno,
	Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX86},
	Syscalls: []specs.LinuxSyscall{
		{Names: []string{"read"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{arg(0, specs.OpNotEqual, 0x1_0000_0002, 0)}},
		{Names: []string{"write"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{arg(1, specs.OpLessThan, 0x1_0000_0002, 0)}},
		{Names: []string{"close"}, Action: specs.ActTrap, Args: []specs.LinuxSeccompArg{arg(2, specs.OpLessEqual, 0x1_0000_0002, 0)}},
		{Names: []string{"dup"}, Action: specs.ActLog, Args: []specs.LinuxSeccompArg{arg(3, specs.OpGreaterEqual, 0x1_0000_0002, 0)}},
		{Names: []string{"pipe"}, Action: specs.ActKill, Args: []specs.LinuxSeccompArg{arg(4, specs.OpGreaterThan, 0x1_0000_0002, 0)}},
		{Names: []string{"ioctl"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{arg(5, specs.OpMaskedEqual, 0xf_0000_00f0, 0x1_0000_0020)}},
		{Names: []string{"kill"}, Action: specs.ActErrno, ErrnoRet: errno(42), Args: []specs.LinuxSeccompArg{arg(0, specs.OpEqualTo, 1, 0), arg(1, specs.OpEqualTo, 2, 0)}},
		{Names: []string{"kill"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{arg(0, specs.OpEqualTo, 3, 0), arg(0, specs.OpEqualTo, 2, 0)}},
		{Names: []string{"clone", "no_such_call"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{arg(0, specs.OpEqualTo, 1, 0)}},
		{Names: []string{"clone"}, Action: specs.ActErrno, ErrnoRet: errno(38)},
	},
}

func TestEveryCallGetsTheVerdictOfTheProfile(t *testing.T) {
	values := []uint64{0, 1, 2, 3, 7, 8, 10, 16, 17, 38, 40, 45, 46, 0x7E020000, 0x10000000, 0x20, 0x1_0000_0001, 0x1_0000_0002,
		0x1_0000_0003, 0x1_0000_0020, 0xf_0000_0020, 2_0000_0000, 0x20000, 0x20008, 0xffffffff, 1 << 63, ^uint64(0)}
	for name, p := range map[string]*specs.LinuxSeccomp{
		"docker's":               dockerProfile(t),
		"docker's for SYS_ADMIN": dockerProfile(t, "CAP_SYS_ADMIN", "CAP_SYS_PTRACE"),
		"every operator":         everyOperator,
		"allow but a few":        {DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"reboot", "swapon"}, Action: specs.ActKillProcess}}},
		"nothing named":          {DefaultAction: specs.ActTrap},
	} {
		for _, goarch := range []string{"amd64", "arm64"} {
			prog, err := compileFor(p, goarch)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			archs, err := selectArchs(p.Architectures, goarch)
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range archs {
				t.Run(fmt.Sprintf("%s on %s", name, a.name), func(t *testing.T) {
					numbers := a.numbers()
					rng := rand.New(rand.NewPCG(1, 2))
					for nr := uint32(0); nr < 600; nr++ {
						for range 25 {
							var args [6]uint64
							for i := range args {
								args[i] = values[rng.IntN(len(values))]
								if a.narrow {
									args[i] = uint64(uint32(args[i]))
								}
							}
							got := run(t, prog.Filter, a.audit, nr|a.bit, args)
							if want := reference(p, a, numbers, nr, args); got != want && !(a.socketcalls != nil && nr == 102) {
								t.Fatalf("call %d %#x: verdict %#x, want %#x", nr, args, got, want)
							}
						}
					}
				})
			}
		}
	}
}

func TestConventionsThatTheProfileDoesNotNameAreKilled(t *testing.T) {
	for _, c := range []struct {
		name  string
		audit uint32
		nr    uint32
	}{
		{"i386 call", unix.AUDIT_ARCH_I386, 4},
		{"x32 call", unix.AUDIT_ARCH_X86_64, x32Bit | 1},
		{"arm call", unix.AUDIT_ARCH_ARM, 4},
	} {
		p, err := compileFor(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow}, "amd64")
		if err != nil {
			t.Fatal(err)
		}
		if got := run(t, p.Filter, c.audit, c.nr, [6]uint64{}); got != unix.SECCOMP_RET_KILL_PROCESS {
			t.Errorf("%s: verdict %#x", c.name, got)
		}
	}
}

func TestSocketcallFollowsTheCallItStandsFor(t *testing.T) {
	p, err := compileFor(&specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchX86},
		Syscalls: []specs.LinuxSyscall{
			{Names: []string{"bind"}, Action: specs.ActAllow},
			{Names: []string{"socket"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{arg(0, specs.OpEqualTo, 2, 0)}},
		},
	}, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	for sub, want := range map[uint64]uint32{1: 0x50001, 2: unix.SECCOMP_RET_ALLOW, 3: 0x50001} {
		if got := run(t, p.Filter, unix.AUDIT_ARCH_I386, 102, [6]uint64{sub}); got != want {
			t.Errorf("socketcall(%d): verdict %#x, want %#x", sub, got, want)
		}
	}
}

func TestWhatCannotBeKeptIsRefused(t *testing.T) {
	allow := func(args ...specs.LinuxSeccompArg) []specs.LinuxSyscall {
		return []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActAllow, Args: args}}
	}
	for name, p := range map[string]*specs.LinuxSeccomp{
		"unknown default action": {DefaultAction: "SCMP_ACT_MAYBE"},
		"notify":                 {DefaultAction: specs.ActNotify},
		"listener":               {DefaultAction: specs.ActAllow, ListenerPath: "/run/x"},
		"errno past its 16 bits": {DefaultAction: specs.ActErrno, DefaultErrnoRet: errno(65536)},
		"errno with allow":       {DefaultAction: specs.ActAllow, DefaultErrnoRet: errno(1)},
		"seventh argument":       {DefaultAction: specs.ActErrno, Syscalls: allow(arg(6, specs.OpEqualTo, 0, 0))},
		"unknown operator":       {DefaultAction: specs.ActErrno, Syscalls: allow(arg(0, "SCMP_CMP_LIKE", 0, 0))},
		"unknown flag":           {DefaultAction: specs.ActErrno, Flags: []specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"}},
	} {
		var unsupported *UnsupportedError
		if _, err := compileFor(p, "amd64"); !errors.As(err, &unsupported) {
			t.Errorf("%s: error %v, want an UnsupportedError", name, err)
		}
	}
}

func TestLongProfilesStayWithinTheReachOfJumps(t *testing.T) {
	p := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno}
	for i := range uint64(300) {
		p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{
			Names: []string{"socket"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{arg(0, specs.OpEqualTo, 2*i, 0)}})
	}
	prog, err := compileFor(p, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(600) {
		want := uint32(unix.SECCOMP_RET_ALLOW)
		if i%2 == 1 {
			want = 0x50001
		}
		if got := run(t, prog.Filter, unix.AUDIT_ARCH_X86_64, unix.SYS_SOCKET, [6]uint64{i}); got != want {
			t.Fatalf("socket(%d): verdict %#x, want %#x", i, got, want)
		}
	}
}

func BenchmarkCompileDockersProfile(b *testing.B) {
	p := dockerProfile(b)
	for b.Loop() {
		if _, err := Compile(p); err != nil {
			b.Fatal(err)
		}
	}
}
