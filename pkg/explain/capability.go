package explain

import (
	"encoding/json"
	"fmt"
	"math/bits"
)

// Capabilities are the parts of root's power that a process has, or could come to
// (capabilities(7)).
type Capabilities struct {
	Effective   CapabilitySet `json:"effective"`   // what the kernel checks
	Permitted   CapabilitySet `json:"permitted"`   // what it may make effective
	Bounding    CapabilitySet `json:"bounding"`    // what executing a program can give it at most
	Inheritable CapabilitySet `json:"inheritable"` // what stays over an execve if the file says so, too
	Ambient     CapabilitySet `json:"ambient"`     // what stays over an execve
	Kernel      int           `json:"kernel"`      // how many this kernel has
}

// CapabilitySet has a bit for each capability. In JSON it is a list of names.
type CapabilitySet uint64

// Has tells whether capability number c is in the set.
func (s CapabilitySet) Has(c int) bool { return s>>c&1 == 1 }

// Len is the number of capabilities in the set.
func (s CapabilitySet) Len() int { return bits.OnesCount64(uint64(s)) }

// All yields the capabilities of the set by their numbers.
func (s CapabilitySet) All(yield func(Capability) bool) {
	for c := range 64 {
		if s.Has(c) && !yield(capability(c)) {
			return
		}
	}
}

func (s CapabilitySet) MarshalJSON() ([]byte, error) {
	names := []string{}
	for c := range s.All {
		names = append(names, c.Name)
	}
	return json.Marshal(names)
}

// Capability is one of root's powers.
type Capability struct {
	Name   string // as capabilities(7) and runtime-spec have it
	Allows string // in a few words
}

func capability(c int) Capability {
	if c < len(known) {
		return known[c]
	}
	return Capability{fmt.Sprintf("CAP_%d", c), "something newer than this program"}
}

// Docker is the set that docker gives a container, and podman gave one for long.
const Docker = CapabilitySet(1<<0 | 1<<1 | 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<10 | 1<<13 | 1<<18 | 1<<27 | 1<<29 | 1<<31)

// known is in the order of their numbers (linux/capability.h).
var known = [...]Capability{
	{"CAP_CHOWN", "give files to anybody"},
	{"CAP_DAC_OVERRIDE", "read and write whatever the modes of files forbid"},
	{"CAP_DAC_READ_SEARCH", "read whatever the modes of files forbid, and open files by handle: a way out of a container"},
	{"CAP_FOWNER", "do with others' files what only owners may"},
	{"CAP_FSETID", "keep set-id bits when a file changes"},
	{"CAP_KILL", "send signals to anybody's processes"},
	{"CAP_SETGID", "take any group"},
	{"CAP_SETUID", "become any user"},
	{"CAP_SETPCAP", "drop capabilities from its bounding set"},
	{"CAP_LINUX_IMMUTABLE", "make files immutable or append-only"},
	{"CAP_NET_BIND_SERVICE", "listen on ports below 1024"},
	{"CAP_NET_BROADCAST", "broadcast (the kernel does not use it)"},
	{"CAP_NET_ADMIN", "configure interfaces, routes and firewalls"},
	{"CAP_NET_RAW", "send packets of any form, as ping does"},
	{"CAP_IPC_LOCK", "keep memory from being swapped out"},
	{"CAP_IPC_OWNER", "use anybody's System V IPC objects"},
	{"CAP_SYS_MODULE", "load code into the kernel: full power over the machine"},
	{"CAP_SYS_RAWIO", "reach hardware ports and physical memory"},
	{"CAP_SYS_CHROOT", "change its root directory and join mount namespaces"},
	{"CAP_SYS_PTRACE", "trace and read the memory of any process it sees"},
	{"CAP_SYS_PACCT", "switch process accounting"},
	{"CAP_SYS_ADMIN", "mount, join namespaces and a hundred things more: nearly root"},
	{"CAP_SYS_BOOT", "restart the machine and load another kernel"},
	{"CAP_SYS_NICE", "raise priorities, bind processes to processors"},
	{"CAP_SYS_RESOURCE", "exceed limits and quotas"},
	{"CAP_SYS_TIME", "set the clock"},
	{"CAP_SYS_TTY_CONFIG", "configure and hang up terminals"},
	{"CAP_MKNOD", "make device files"},
	{"CAP_LEASE", "be told before somebody opens a file"},
	{"CAP_AUDIT_WRITE", "write to the audit log"},
	{"CAP_AUDIT_CONTROL", "configure auditing"},
	{"CAP_SETFCAP", "give capabilities to files"},
	{"CAP_MAC_OVERRIDE", "ignore Smack's rules"},
	{"CAP_MAC_ADMIN", "change Smack's rules or AppArmor's profiles"},
	{"CAP_SYSLOG", "read the kernel's log and addresses"},
	{"CAP_WAKE_ALARM", "wake the machine from sleep"},
	{"CAP_BLOCK_SUSPEND", "keep the machine from sleeping"},
	{"CAP_AUDIT_READ", "read the audit log"},
	{"CAP_PERFMON", "measure performance across the system"},
	{"CAP_BPF", "load BPF programs into the kernel"},
	{"CAP_CHECKPOINT_RESTORE", "freeze processes and bring them back"},
}
