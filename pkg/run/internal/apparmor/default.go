package apparmor

// perms are what a rule gives, in the bits that the kernel's first automata had
// for the owner of a file (map_old_perms in policy_compat.c).
type perms uint32

const (
	execute perms = 1 << iota
	write         // and to create, remove, change
	read          // and signals: receive
	appends       // and ptrace: be traced
	link          // and ptrace: be read
	lock          // and links: no more may be given by the new name
	mmapExec
)

// Other names of the bits, outside of files.
const (
	umount              = read
	signalSend          = write
	signalReceive       = read
	ptraceTrace         = write
	ptraceRead          = read
	ptraceTraced        = appends
	ptraceReadBy        = link
	change              = write | appends | link | lock
	all           perms = 1<<7 - 1
)

// rule gives perms to what a pattern matches. Of the rules that match, the last
// counts alone.
type rule struct {
	pattern string
	perms   perms
}

// Policy is a profile without its name.
type Policy struct {
	files []rule
	// other are rules for all else: a pattern begins with the byte of its class.
	other func(name string) []rule
}

// Classes of mediation (apparmor.h). One that no rule is about is not mediated.
const (
	classMount  = "\x07"
	classPtrace = "\x09"
	classSignal = "\x0a"
	classLabel  = "\x10"
)

// Default is what docker's default profile gives: all that capabilities and file
// modes do, but for the ways out of a container that these leave to its root.
// Behind masked and read-only paths it is the second line, which also holds
// where a process could mount /proc and /sys anew.
func Default() Policy {
	return Policy{
		files: []rule{
			{"/**", all},
			// The kernel's parameters are the host's, but for those of System V shared
			// memory; processes are the container's own.
			{"/proc/**", all &^ change},
			{"/proc/[1-9]*/**", all},
			{"/proc/sys/**", all &^ change},
			{"/proc/sys/kernel/shm*", all},
			{"/proc/sysrq-trigger", 0},
			{"/proc/kcore", 0},
			{"/sys/**", all &^ (change | execute)},
			{"/sys/fs/cgroup/**", all},
			{"/sys/firmware/**", 0},
			{"/sys/devices/virtual/powercap/**", 0},
			{"/sys/kernel/security/**", 0},
		},
		other: func(name string) []rule {
			return []rule{
				// To mount and to pivot_root is not allowed to whatever capabilities.
				{classMount + "**", umount},
				// Others may signal and trace in, who may at all; from within, only
				// containers of this profile are in reach.
				{classSignal + "\x00**", signalReceive | signalSend}, // only asks whether there is one
				{classSignal + "?**", signalReceive},
				{classSignal + "?" + name, signalReceive | signalSend},
				{classPtrace, 0},
				{classLabel + classPtrace + "**", ptraceTraced | ptraceReadBy},
				{classLabel + classPtrace + name, ptraceTraced | ptraceReadBy | ptraceTrace | ptraceRead},
			}
		},
	}
}
