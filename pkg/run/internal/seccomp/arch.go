package seccomp

import (
	"fmt"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// x32Bit marks a call number of the x32 convention (__X32_SYSCALL_BIT).
const x32Bit = 0x40000000

// arch is a calling convention: how it identifies itself and numbers its calls.
type arch struct {
	name  specs.Arch
	audit uint32
	bit   uint32 // set in every call number
	names []string
	// extra calls lie outside the table.
	extra map[string]uint32
	// narrow: registers hold 32 bits, and so do conditions.
	narrow bool
	// socketcalls are the calls that socketcall(2) multiplexes, by its first
	// argument; nil where there is no such call.
	socketcalls map[string]uint64
}

// numbers inverts the table.
func (a *arch) numbers() map[string]uint32 {
	m := make(map[string]uint32, len(a.names)+len(a.extra))
	for nr, name := range a.names {
		if name != "" {
			m[name] = uint32(nr)
		}
	}
	for name, nr := range a.extra {
		m[name] = nr
	}
	return m
}

func lookupArch(name specs.Arch) *arch {
	switch name {
	case specs.ArchX86_64:
		return &arch{name: name, audit: unix.AUDIT_ARCH_X86_64, names: callsAMD64[:]}
	case specs.ArchX32:
		return &arch{name: name, audit: unix.AUDIT_ARCH_X86_64, bit: x32Bit, names: x32Names(), extra: x32Calls(), narrow: true}
	case specs.ArchX86:
		return &arch{name: name, audit: unix.AUDIT_ARCH_I386, names: calls386[:], narrow: true, socketcalls: socketcalls()}
	case specs.ArchAARCH64:
		return &arch{name: name, audit: unix.AUDIT_ARCH_AARCH64, names: callsARM64[:]}
	case specs.ArchARM:
		return &arch{name: name, audit: unix.AUDIT_ARCH_ARM, names: callsARM[:], extra: armCalls(), narrow: true}
	}
	return nil
}

// native returns the conventions a kernel built for goarch can take, its own first.
func native(goarch string) []specs.Arch {
	switch goarch {
	case "amd64":
		return []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32}
	case "arm64":
		return []specs.Arch{specs.ArchAARCH64, specs.ArchARM}
	}
	return nil
}

// selectArchs picks the conventions of the profile that exist on this machine.
// The machine's own is always among them, as in every runtime: a filter without
// it would kill the container at once.
func selectArchs(wanted []specs.Arch, goarch string) ([]*arch, error) {
	possible := native(goarch)
	if len(possible) == 0 {
		return nil, &UnsupportedError{fmt.Sprintf("architecture %s", goarch)}
	}
	archs := []*arch{lookupArch(possible[0])}
	for _, name := range possible[1:] {
		if slices.Contains(wanted, name) {
			archs = append(archs, lookupArch(name))
		}
	}
	return archs, nil
}

// x32Names is the table of x86_64 without the calls that x32 numbers anew
// because their structures hold pointers or longs (arch/x86/entry/syscalls,
// syscall_64.tbl, abi "64").
func x32Names() []string {
	names := slices.Clone(callsAMD64[:])
	for name := range x32Calls() {
		if i := slices.Index(names, name); i >= 0 {
			names[i] = ""
		}
	}
	for _, name := range []string{"_sysctl", "uselib", "nfsservctl", "create_module", "get_kernel_syms", "query_module"} {
		if i := slices.Index(names, name); i >= 0 {
			names[i] = ""
		}
	}
	return names
}

func x32Calls() map[string]uint32 {
	renumbered := [...]string{
		"rt_sigaction", "rt_sigreturn", "ioctl", "readv", "writev", "recvfrom", "sendmsg", "recvmsg",
		"execve", "ptrace", "rt_sigpending", "rt_sigtimedwait", "rt_sigqueueinfo", "sigaltstack",
		"timer_create", "mq_notify", "kexec_load", "waitid", "set_robust_list", "get_robust_list",
		"vmsplice", "move_pages", "preadv", "pwritev", "rt_tgsigqueueinfo", "recvmmsg", "sendmmsg",
		"process_vm_readv", "process_vm_writev", "setsockopt", "getsockopt", "io_setup", "io_submit",
		"execveat", "preadv2", "pwritev2",
	}
	m := make(map[string]uint32, len(renumbered))
	for i, name := range renumbered {
		m[name] = 512 + uint32(i)
	}
	return m
}

func armCalls() map[string]uint32 {
	return map[string]uint32{
		"breakpoint": firstPrivate + 1, "cacheflush": firstPrivate + 2, "usr26": firstPrivate + 3,
		"usr32": firstPrivate + 4, "set_tls": firstPrivate + 5, "get_tls": firstPrivate + 6,
	}
}

func socketcalls() map[string]uint64 {
	order := [...]string{
		"socket", "bind", "connect", "listen", "accept", "getsockname", "getpeername", "socketpair",
		"send", "recv", "sendto", "recvfrom", "shutdown", "setsockopt", "getsockopt", "sendmsg",
		"recvmsg", "accept4", "recvmmsg", "sendmmsg",
	}
	m := make(map[string]uint64, len(order))
	for i, name := range order {
		m[name] = uint64(i) + 1
	}
	return m
}
