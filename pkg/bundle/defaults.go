package bundle

import (
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// capabilities are docker's fourteen, with nothing inheritable or ambient, through
// which a program with file capabilities would get them back (CVE-2022-24769).
// A user who is not root starts with none, as after any execve, but can get them
// by set-user-id programs.
func capabilities(uid uint32) *specs.LinuxCapabilities {
	all := []string{
		"CAP_CHOWN",
		"CAP_DAC_OVERRIDE",
		"CAP_FSETID",
		"CAP_FOWNER",
		"CAP_MKNOD",
		"CAP_NET_RAW",
		"CAP_SETGID",
		"CAP_SETUID",
		"CAP_SETFCAP",
		"CAP_SETPCAP",
		"CAP_NET_BIND_SERVICE",
		"CAP_SYS_CHROOT",
		"CAP_KILL",
		"CAP_AUDIT_WRITE",
	}
	if uid != 0 {
		return &specs.LinuxCapabilities{Bounding: all}
	}
	return &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
}

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
