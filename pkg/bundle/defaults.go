package bundle

import (
	"path/filepath"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Default is the config of a container of which nothing is known: root, docker's
// confinement, and no network but a loopback. Process.Args is the caller's to fill;
// Linux.Seccomp comes from DefaultSeccomp once the capabilities are settled.
func Default() *specs.Spec {
	return &specs.Spec{
		Version: version,
		Root:    &specs.Root{Path: "rootfs"},
		Process: &specs.Process{
			Cwd:          "/",
			Env:          []string{"PATH=" + defaultPath},
			Capabilities: Capabilities(DefaultCapabilities(), 0),
			OOMScoreAdj:  new(int),
		},
		Mounts: mounts(),
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace},
				{Type: specs.NetworkNamespace},
				{Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace},
				{Type: specs.MountNamespace},
				{Type: specs.CgroupNamespace},
			},
			Sysctl:        networkSysctls(),
			Resources:     &specs.LinuxResources{Devices: deviceRules()},
			MaskedPaths:   maskedPaths(),
			ReadonlyPaths: readonlyPaths(),
		},
	}
}

// version is the first one that has all that is used here. Runtimes look at it:
// crun up to 1.8 runs nothing that is not 1.0.
const version = "1.0.2"

// defaultPath is docker's.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// ttyGroup is the group of terminals in all distributions.
const ttyGroup = 5

func mounts() []specs.Mount {
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=" + strconv.Itoa(ttyGroup)}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid", "noexec", "nodev"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
	}
}

// pingSysctl lists the groups that may use ICMP sockets.
const pingSysctl = "net.ipv4.ping_group_range"

// networkSysctls let every user of a network namespace of its own ping, and listen
// on ports below 1024: there is nobody in it to be impersonated.
func networkSysctls() map[string]string {
	return map[string]string{
		pingSysctl:                            "0 2147483647",
		"net.ipv4.ip_unprivileged_port_start": "0",
	}
}

// deviceRules allow the devices that are made in every container's /dev, and
// forbid the rest.
func deviceRules() []specs.LinuxDeviceCgroup {
	rules := []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	for _, d := range [...]struct{ major, minor int64 }{
		{1, 5}, // zero
		{1, 3}, // null
		{1, 9}, // urandom
		{1, 8}, // random
		{5, 0}, // tty
		{5, 1}, // console
	} {
		rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &d.major, Minor: &d.minor, Access: "rwm"})
	}
	fuse := [...]int64{10, 229} // runtimes of old allowed it
	return append(rules, specs.LinuxDeviceCgroup{Allow: false, Type: "c", Major: &fuse[0], Minor: &fuse[1], Access: "rwm"})
}

// maskedPaths are docker's, and with them each processor's counters of thermal
// throttling, for the processors that there are.
func maskedPaths() []string {
	throttles, _ := filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle")
	return append([]string{
		"/proc/acpi",
		"/proc/asound",
		"/proc/interrupts", // keystrokes can be timed by it (GHSA-6fw5-f8r9-fgfm)
		"/proc/kcore",
		"/proc/keys",
		"/proc/latency_stats",
		"/proc/sched_debug",
		"/proc/scsi",
		"/proc/timer_list",
		"/proc/timer_stats",
		"/sys/devices/virtual/powercap", // keys can be read off the power drawn (GHSA-jq35-85cj-fj4p)
		"/sys/firmware",
	}, throttles...)
}

func readonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}
