package host

import (
	"path"
	"strings"
)

// cgroups are told by what is mounted: the unified hierarchy at the root of all is
// version 2, anything else version 1, with or without the other beside it.
func (m *Machine) cgroups() Finding {
	const subject = "cgroups"
	const mount = "sys/fs/cgroup"
	version := ""
	switch {
	case m.exists(mount + "/cgroup.controllers"):
		version = "version 2"
	case m.exists(mount + "/pids"):
		version = "version 1"
	default:
		f := Finding{subject, Fail, "none are mounted at /sys/fs/cgroup", "mount -t cgroup2 cgroup2 /sys/fs/cgroup"}
		if m.UID != 0 {
			f.Level = Warn
		}
		return f
	}
	if m.UID == 0 {
		dir := mount
		if version == "version 1" {
			dir += "/pids"
		}
		if !m.Writable("/" + dir) {
			return Finding{subject, Fail, version + ", read-only", "mount -o remount,rw /" + mount}
		}
		return ok(subject, version)
	}
	if version == "version 1" {
		return Finding{subject, Warn, version + ": users cannot limit their containers", "start Linux with systemd.unified_cgroup_hierarchy=1, or run peel as root"}
	}
	dir, controllers := m.delegated(mount)
	if dir == "" || controllers == "" {
		return Finding{subject, Warn, version + ", not delegated to this user: his containers have no limits",
			"run peel by 'systemd-run --user --scope -p Delegate=yes', or as root"}
	}
	return ok(subject, version+", delegated: "+controllers)
}

// delegated is the cgroup that this user may make others in, and what it controls.
func (m *Machine) delegated(mount string) (dir, controllers string) {
	for line := range strings.Lines(m.read("proc/self/cgroup")) {
		at, found := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !found {
			continue
		}
		// Whoever may move processes here has been given the hierarchy from here on.
		dir = path.Join(mount, at)
		if m.Writable("/"+dir) && m.Writable("/"+dir+"/cgroup.procs") {
			return dir, m.line(dir + "/cgroup.controllers")
		}
	}
	return "", ""
}
