package guest

import (
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"peel/pkg/run/internal/proto"
)

// capabilityNames are the capabilities by number (include/uapi/linux/capability.h).
var capabilityNames = [...]string{
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
	"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
	"SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
	"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
	"MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
	"CHECKPOINT_RESTORE",
}

// capSet is a set of capabilities, a bit each.
type capSet uint64

func (s capSet) has(c int) bool { return s&(1<<c) != 0 }

// capsOf reads names of a config. One that this kernel is too old for is left
// out: what does not exist cannot be given.
func capsOf(names []string) (capSet, error) {
	var s capSet
	for _, name := range names {
		c := slices.Index(capabilityNames[:], strings.TrimPrefix(name, "CAP_"))
		if c < 0 {
			return 0, &proto.Failure{Stage: "capabilities", Path: name, Errno: unix.EINVAL, Text: "unknown"}
		}
		if _, err := prctl(unix.PR_CAPBSET_READ, uintptr(c)); err == nil {
			s |= 1 << c
		}
	}
	return s, nil
}

// prctl calls prctl(2) on this thread alone.
func prctl(op, a uintptr) (uintptr, error) {
	r, _, errno := unix.RawSyscall6(unix.SYS_PRCTL, op, a, 0, 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return r, nil
}

// caps are the sets of a process.
type caps struct{ bounding, effective, permitted, inheritable, ambient capSet }

func (p *process) capabilities() (caps, error) {
	var out caps
	c := p.spec.Capabilities
	if c == nil {
		return out, nil // runtime-spec: none was asked for
	}
	for _, set := range []struct {
		to    *capSet
		names []string
	}{
		{&out.bounding, c.Bounding}, {&out.effective, c.Effective}, {&out.permitted, c.Permitted},
		{&out.inheritable, c.Inheritable}, {&out.ambient, c.Ambient},
	} {
		var err error
		if *set.to, err = capsOf(set.names); err != nil {
			return out, err
		}
	}
	if p.user.UID != 0 {
		// execve takes these from anyone but root, unless they are ambient. They
		// go now, so that it is the user himself who may execute the program.
		out.permitted &= out.ambient
		out.effective &= out.ambient
	}
	return out, nil
}

// become takes the identity of the process on this thread: groups, gid, uid,
// capabilities. CAP_SYS_ADMIN is kept, for this thread alone, where installing
// the seccomp filter needs it; confine gives it up.
func (p *process) become() error {
	want, err := p.capabilities()
	if err != nil {
		return err
	}
	if err := limitBounding(want.bounding); err != nil {
		return err
	}
	if _, err := prctl(unix.PR_SET_KEEPCAPS, 1); err != nil {
		return proto.Fail("capabilities", "", err)
	}
	if err := p.setIDs(); err != nil {
		return err
	}
	// execve clears the flag too; a failed one should not leave it.
	if _, err := prctl(unix.PR_SET_KEEPCAPS, 0); err != nil {
		return proto.Fail("capabilities", "", err)
	}
	now := want
	if p.needsAdmin() {
		now.permitted |= 1 << unix.CAP_SYS_ADMIN
		now.effective |= 1 << unix.CAP_SYS_ADMIN
	}
	if err := setCaps(now); err != nil {
		return proto.Fail("capabilities", "", err)
	}
	// PR_CAP_AMBIENT takes its operation as the first argument.
	if _, err := ambient(unix.PR_CAP_AMBIENT_CLEAR_ALL, 0); err != nil {
		return proto.Fail("ambient capabilities", "", err)
	}
	for c := range capabilityNames {
		if !want.ambient.has(c) {
			continue
		}
		if _, err := ambient(unix.PR_CAP_AMBIENT_RAISE, uintptr(c)); err != nil {
			return proto.Fail("ambient capability", "CAP_"+capabilityNames[c], err)
		}
	}
	return nil
}

func ambient(op, c uintptr) (uintptr, error) {
	r, _, errno := unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, op, c, 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return r, nil
}

// needsAdmin: the kernel lets a thread install a filter if it can gain no
// privilege by execve, or is an administrator.
func (p *process) needsAdmin() bool { return p.filter != nil && !p.spec.NoNewPrivileges }

// limitBounding drops what execve must never give back. What is wanted and not
// there is an error: a container with less than its config says would fail in
// ways nobody can explain.
func limitBounding(want capSet) error {
	for c := 0; ; c++ {
		held, err := prctl(unix.PR_CAPBSET_READ, uintptr(c))
		if err != nil {
			return nil // past the last one of this kernel
		}
		switch {
		case held == 0 && want.has(c):
			return &proto.Failure{Stage: "capabilities", Path: "CAP_" + capabilityNames[c], Errno: unix.EPERM, Text: "not ours to give"}
		case held == 1 && !want.has(c):
			if _, err := prctl(unix.PR_CAPBSET_DROP, uintptr(c)); err != nil {
				return proto.Fail("bounding set", "", err)
			}
		}
	}
}

// setIDs calls the kernel for this thread alone: the C library and Go's syscall
// package would do it for all threads, of which only this one survives.
func (p *process) setIDs() error {
	groups := p.user.Groups
	var first *uint32
	if len(groups) > 0 {
		first = &groups[0]
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(first)), 0); errno != 0 {
		if !p.groupsSettled(errno) {
			return proto.Fail("supplementary groups", "", errno)
		}
	}
	gid, uid := uintptr(p.user.GID), uintptr(p.user.UID)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, gid, gid, gid); errno != 0 {
		return proto.Fail("group", "", errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); errno != 0 {
		return proto.Fail("user", "", errno)
	}
	return nil
}

// groupsSettled: in a user namespace of one id setgroups(2) is denied for good
// (user_namespaces(7)). No more than the primary group was wanted there.
func (p *process) groupsSettled(errno unix.Errno) bool {
	if errno != unix.EPERM || slices.ContainsFunc(p.user.Groups, func(g uint32) bool { return g != p.user.GID }) {
		return false
	}
	fd, err := unix.Openat(p.proc, "self/setgroups", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	buf := make([]byte, 16)
	n, _ := unix.Read(fd, buf)
	return strings.HasPrefix(string(buf[:max(n, 0)]), "deny")
}

func setCaps(c caps) error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	for i := range data {
		shift := 32 * i
		data[i] = unix.CapUserData{
			Effective: uint32(c.effective >> shift), Permitted: uint32(c.permitted >> shift), Inheritable: uint32(c.inheritable >> shift),
		}
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&hdr)), uintptr(unsafe.Pointer(&data[0])), 0); errno != 0 {
		return errno
	}
	return nil
}

// confine gives up the last of our privileges. After it, this thread may make
// the calls that the filter allows, and the filter is the image owner's.
func (p *process) confine() error {
	if p.spec.NoNewPrivileges {
		if _, err := prctl(unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
			return proto.Fail("no_new_privs", "", err)
		}
	}
	want, err := p.capabilities()
	if err != nil {
		return err
	}
	if p.filter != nil {
		if err := p.filter.Install(); err != nil {
			return proto.Fail("seccomp", "", err)
		}
	}
	if p.needsAdmin() {
		return proto.Fail("capabilities", "", setCaps(want))
	}
	return nil
}
