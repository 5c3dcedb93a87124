package run

import (
	"fmt"
	"os"

	seccompprofile "github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// DefaultCapabilities are the fourteen that docker leaves to root of a container.
func DefaultCapabilities() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
		"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
	}
}

// DefaultSpec is the config of a container without wishes: docker's defaults,
// with no network but loopback. Root.Path and Process.Args are the caller's to
// fill; Linux.Seccomp comes from DefaultSeccomp once the capabilities are
// settled.
func DefaultSpec() *specs.Spec {
	caps := DefaultCapabilities()
	return &specs.Spec{
		Version: specs.Version,
		Process: &specs.Process{
			Cwd:          "/",
			Env:          []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			Capabilities: setCapabilities(caps),
		},
		Root:   &specs.Root{Path: "rootfs"},
		Mounts: defaultMounts(),
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}, {Type: specs.UTSNamespace},
				{Type: specs.IPCNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.CgroupNamespace},
			},
			Resources: &specs.LinuxResources{
				Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}},
			},
			MaskedPaths:   maskedPaths(),
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
}

// setCapabilities gives a list to a process. Inheritable and ambient stay empty:
// with them, a file capability of the image would count for any user
// (CVE-2022-24769).
func setCapabilities(list []string) *specs.LinuxCapabilities {
	return &specs.LinuxCapabilities{Bounding: list, Effective: list, Permitted: list}
}

func defaultMounts() []specs.Mount {
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid", "noexec", "nodev"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
	}
}

// maskedPaths are moby's: what tells about the host or its other containers.
func maskedPaths() []string {
	paths := []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
		"/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
	}
	// One for each processor that counts its thermal events.
	for n := 0; ; n++ {
		dir := fmt.Sprintf("/sys/devices/system/cpu/cpu%d", n)
		if _, err := os.Lstat(dir); err != nil {
			return paths
		}
		if _, err := os.Lstat(dir + "/thermal_throttle"); err == nil {
			paths = append(paths, dir+"/thermal_throttle")
		}
	}
}

// DefaultSeccomp is docker's default profile for the capabilities that the spec
// gives: a call that needs one it lacks is refused before it reaches the kernel.
func DefaultSeccomp(spec *specs.Spec) (*specs.LinuxSeccomp, error) {
	return seccompprofile.GetDefaultProfile(spec)
}

// LoadSeccomp reads a profile in docker's form, which also holds conditions on
// capabilities, architectures and kernels.
func LoadSeccomp(profile string, spec *specs.Spec) (*specs.LinuxSeccomp, error) {
	return seccompprofile.LoadProfile(profile, spec)
}
