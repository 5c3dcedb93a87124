// Package seccomp compiles the seccomp part of a runtime-spec config.json into
// the classic BPF program the kernel runs at every system call, and installs it.
//
// The program first tells the calling conventions of the machine apart (an
// amd64 kernel also takes i386 and x32 calls, which number them differently),
// then finds the call in a balanced tree of number ranges, then compares
// arguments where a rule has some:
//
//	load arch ── x86_64 ── load nr ── tree ── allow
//	          │                            ├─ argument rules ── allow | default
//	          │                            └─ nr newer than the profile: ENOSYS
//	          ├─ i386 ───── ...
//	          └─ other: kill
//
// A profile is a list of names, and names that the tables here do not know are
// skipped, as every runtime does: profiles name calls of all architectures.
package seccomp

import (
	"fmt"
	"runtime"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

//go:generate go run mktables.go

// Program is a compiled filter, ready for the kernel.
type Program struct {
	Filter []unix.SockFilter
	Flags  uint // SECCOMP_FILTER_FLAG_*
}

// maxFilter is the kernel's BPF_MAXINSNS.
const maxFilter = 4096

// UnsupportedError says which wish of a profile cannot be kept. A profile is
// never weakened in silence.
type UnsupportedError struct{ Feature string }

func (e *UnsupportedError) Error() string { return "seccomp: " + e.Feature + " is not supported" }

// Compile translates a profile for this machine. A nil profile gives a nil
// Program: no filter.
func Compile(profile *specs.LinuxSeccomp) (*Program, error) {
	return compileFor(profile, runtime.GOARCH)
}

func compileFor(profile *specs.LinuxSeccomp, goarch string) (*Program, error) {
	if profile == nil {
		return nil, nil
	}
	if profile.ListenerPath != "" {
		return nil, &UnsupportedError{"a notification listener"}
	}
	flags, err := filterFlags(profile.Flags)
	if err != nil {
		return nil, err
	}
	archs, err := selectArchs(profile.Architectures, goarch)
	if err != nil {
		return nil, err
	}
	fallback, err := verdict(profile.DefaultAction, profile.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	p := &asm{}
	blocks := make([]block, 0, len(archs))
	for _, a := range archs {
		rules, err := rulesFor(profile, a)
		if err != nil {
			return nil, err
		}
		blocks = append(blocks, block{a, p.calls(a, rules, fallback, newerVerdict(profile, fallback))})
	}
	p.archs(blocks)
	if len(p.reversed) > maxFilter {
		return nil, &UnsupportedError{fmt.Sprintf("a profile of %d instructions (the kernel takes %d)", len(p.reversed), maxFilter)}
	}
	slices.Reverse(p.reversed)
	return &Program{Filter: p.reversed, Flags: flags}, nil
}

// newerVerdict is the answer to calls with a number above every number the
// profile names. A C library probes for calls newer than the profile and falls
// back only when it sees ENOSYS; EPERM would break it.
func newerVerdict(profile *specs.LinuxSeccomp, fallback uint32) uint32 {
	switch fallback & unix.SECCOMP_RET_ACTION_FULL {
	case unix.SECCOMP_RET_ALLOW, unix.SECCOMP_RET_LOG, unix.SECCOMP_RET_TRACE:
		return fallback
	}
	return unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
}

func verdict(action specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	n := uint(unix.EPERM) // runtime-spec, Seccomp: the default of errnoRet
	if errno != nil {
		n = *errno
	}
	if n > unix.SECCOMP_RET_DATA {
		return 0, &UnsupportedError{fmt.Sprintf("errnoRet %d", n)}
	}
	takesErrno := action == specs.ActErrno || action == specs.ActTrace
	if errno != nil && *errno != 0 && !takesErrno {
		return 0, &UnsupportedError{fmt.Sprintf("errnoRet with %s", action)}
	}
	switch action {
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	case specs.ActErrno:
		return unix.SECCOMP_RET_ERRNO | uint32(n), nil
	case specs.ActTrace:
		return unix.SECCOMP_RET_TRACE | uint32(n), nil
	case specs.ActLog:
		return unix.SECCOMP_RET_LOG, nil
	case specs.ActTrap:
		return unix.SECCOMP_RET_TRAP, nil
	case specs.ActKill, specs.ActKillThread:
		return unix.SECCOMP_RET_KILL_THREAD, nil
	case specs.ActKillProcess:
		return unix.SECCOMP_RET_KILL_PROCESS, nil
	}
	return 0, &UnsupportedError{fmt.Sprintf("action %q", action)}
}

func filterFlags(names []specs.LinuxSeccompFlag) (uint, error) {
	if names == nil {
		// What every runtime asks for when the profile is silent: no slowdown of
		// speculative stores for filtered processes.
		return unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, nil
	}
	var flags uint
	for _, name := range names {
		switch name {
		case specs.LinuxSeccompFlagLog:
			flags |= unix.SECCOMP_FILTER_FLAG_LOG
		case specs.LinuxSeccompFlagSpecAllow:
			flags |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
		case "SECCOMP_FILTER_FLAG_TSYNC":
			// The filter goes on the one thread that survives the coming execve.
		default:
			return 0, &UnsupportedError{"flag " + string(name)}
		}
	}
	return flags, nil
}
