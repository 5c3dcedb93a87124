package host

import (
	"io/fs"
	"maps"
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

// machine is a sound one, with files changed: empty takes one away.
func machine(uid int, changes map[string]string) *Machine {
	files := map[string]string{
		"proc/sys/kernel/osrelease":                             "6.12.9-amd64\n",
		"proc/sys/kernel/seccomp/actions_avail":                 "kill_process errno allow\n",
		"proc/sys/user/max_user_namespaces":                     "15000\n",
		"proc/sys/kernel/unprivileged_userns_clone":             "1\n",
		"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "0\n",
		"proc/filesystems":                                      "nodev\tproc\nnodev\toverlay\n\text4\n",
		"proc/self/status":                                      "Name:\tpeel\nCapEff:\t000001ffffffffff\n",
		"proc/self/cgroup":                                      "0::/user.slice/x\n",
		"sys/fs/cgroup/cgroup.controllers":                      "cpu memory pids\n",
		"sys/fs/cgroup/user.slice/x/cgroup.controllers":         "memory pids\n",
		"sys/kernel/security/lsm":                               "lockdown,capability,apparmor",
		"sys/module/apparmor/parameters/enabled":                "Y\n",
		"usr/bin/newuidmap":                                     "x",
	}
	maps.Copy(files, changes)
	root := fstest.MapFS{"dev/null": {Mode: fs.ModeDevice | fs.ModeCharDevice}}
	for name, content := range files {
		if content != "" {
			root[name] = &fstest.MapFile{Data: []byte(content)}
		} else {
			delete(root, name)
		}
	}
	return &Machine{FS: root, UID: uid, User: "jo", IDs: 65537, Writable: func(string) bool { return true }}
}

func find(t *testing.T, all []Finding, subject string) Finding {
	t.Helper()
	for _, f := range all {
		if f.Subject == subject {
			return f
		}
	}
	t.Fatalf("nothing about %s in %+v", subject, all)
	return Finding{}
}

func TestFindings(t *testing.T) {
	for _, c := range []struct {
		claim   string
		m       *Machine
		subject string
		level   Level
		says    string // in text or fix
	}{
		{"a new kernel", machine(0, nil), "kernel", OK, "Linux 6.12.9"},
		{"an old kernel", machine(0, map[string]string{"proc/sys/kernel/osrelease": "5.10.0-28\n"}), "kernel", Fail, "older than 5.12"},
		{"the first that is new enough", machine(0, map[string]string{"proc/sys/kernel/osrelease": "5.12\n"}), "kernel", OK, ""},
		{"no kernel at all", machine(0, map[string]string{"proc/sys/kernel/osrelease": ""}), "kernel", Fail, ""},
		{"a file in place of /dev/null", machine(0, map[string]string{"dev/null": "x"}), "/dev/null", Fail, "mknod"},
		{"no seccomp", machine(0, map[string]string{"proc/sys/kernel/seccomp/actions_avail": ""}), "seccomp", Fail, "CONFIG_SECCOMP_FILTER"},
		{"root of a container", machine(0, map[string]string{"proc/self/status": "CapEff:\t00000000a80425fb\n"}), "privileges", Fail, "CAP_SYS_ADMIN"},
		{"a user without capabilities", machine(1000, map[string]string{"proc/self/status": "CapEff:\t0\n"}), "privileges", OK, ""},
		{"user namespaces for users", machine(1000, nil), "user namespaces", OK, "by users"},
		{"none at all", machine(1000, map[string]string{"proc/sys/user/max_user_namespaces": "0\n"}), "user namespaces", Fail, "sysctl -w user.max_user_namespaces"},
		{"which root can do without", machine(0, map[string]string{"proc/sys/user/max_user_namespaces": "0\n"}), "user namespaces", Warn, ""},
		{"none for users on Debian", machine(1000, map[string]string{"proc/sys/kernel/unprivileged_userns_clone": "0\n"}), "user namespaces", Fail, "unprivileged_userns_clone=1"},
		{"Ubuntu 24.04", machine(1000, map[string]string{"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n", "proc/self/attr/apparmor/current": "unconfined\n"}), "user namespaces", Fail, "/etc/apparmor.d/peel"},
		{"Ubuntu 24.04 with a profile", machine(1000, map[string]string{"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n", "proc/self/attr/apparmor/current": "peel (unconfined)\n"}), "user namespaces", OK, ""},
		{"the restriction without AppArmor", machine(1000, map[string]string{"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n", "sys/module/apparmor/parameters/enabled": "N\n"}), "user namespaces", OK, ""},
		{"a kernel of no distribution", machine(1000, map[string]string{"proc/sys/kernel/unprivileged_userns_clone": "", "proc/sys/kernel/apparmor_restrict_unprivileged_userns": ""}), "user namespaces", OK, ""},
		{"subordinate ids", machine(1000, nil), "subordinate ids", OK, "65537"},
		{"cgroups of root", machine(0, nil), "cgroups", OK, "version 2"},
		{"cgroups that are delegated", machine(1000, nil), "cgroups", OK, "delegated: memory pids"},
		{"old cgroups and a user", machine(1000, map[string]string{"sys/fs/cgroup/cgroup.controllers": "", "sys/fs/cgroup/pids/tasks": "1"}), "cgroups", Warn, "version 1"},
		{"old cgroups and root", machine(0, map[string]string{"sys/fs/cgroup/cgroup.controllers": "", "sys/fs/cgroup/pids/tasks": "1"}), "cgroups", OK, "version 1"},
		{"no cgroups", machine(0, map[string]string{"sys/fs/cgroup/cgroup.controllers": ""}), "cgroups", Fail, "mount -t cgroup2"},
		{"no overlay", machine(0, map[string]string{"proc/filesystems": "nodev\toverlayx\n"}), "overlay", Warn, "modprobe"},
		{"security modules", machine(0, nil), "security modules", OK, "lockdown, capability, apparmor"},
		{"security modules unknown", machine(0, map[string]string{"sys/kernel/security/lsm": ""}), "security modules", OK, "unknown"},
	} {
		f := find(t, c.m.Check(), c.subject)
		if f.Level != c.level || !strings.Contains(f.Text+f.Fix, c.says) {
			t.Errorf("%s: %+v, want %s and %q", c.claim, f, c.level, c.says)
		}
		if (f.Level == OK) != (f.Fix == "") {
			t.Errorf("%s: a fix for what is well, or none for what is not: %+v", c.claim, f)
		}
	}
}

func TestWhatAUserLacksIsNamed(t *testing.T) {
	m := machine(1000, nil)
	m.IDs = 1
	if f := find(t, m.Check(), "subordinate ids"); f.Level != Warn || !strings.Contains(f.Fix, "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 jo") {
		t.Errorf("%+v", f)
	}
	m = machine(1000, map[string]string{"usr/bin/newuidmap": ""})
	m.IDs = 1
	if f := find(t, m.Check(), "subordinate ids"); f.Level != Warn || !strings.Contains(f.Fix, "uidmap") {
		t.Errorf("%+v", f)
	}
	m = machine(1000, nil)
	m.Writable = func(name string) bool { return false }
	if f := find(t, m.Check(), "cgroups"); f.Level != Warn || !strings.Contains(f.Fix, "Delegate=yes") {
		t.Errorf("%+v", f)
	}
	m.UID = 0
	if f := find(t, m.Check(), "cgroups"); f.Level != Fail {
		t.Errorf("%+v", f)
	}
}

func TestTheFirstObstacleIsTheOneThatIsTold(t *testing.T) {
	if err := machine(0, nil).Obstacle(); err != nil {
		t.Error(err)
	}
	err := machine(1000, map[string]string{"proc/sys/user/max_user_namespaces": "0\n", "proc/filesystems": ""}).Obstacle()
	if o, isObstacle := err.(*Obstacle); !isObstacle || o.Subject != "user namespaces" || !strings.Contains(err.Error(), "user.max_user_namespaces = 0") {
		t.Error(err)
	}
}

func TestThisMachineIsUnderstood(t *testing.T) {
	m := &Machine{FS: os.DirFS("/"), UID: os.Geteuid(), IDs: 1, Writable: func(string) bool { return true }}
	if f := find(t, m.Check(), "kernel"); f.Level != OK {
		t.Errorf("%+v", f)
	}
	if f := find(t, m.Check(), "/dev/null"); f.Level != OK {
		t.Errorf("%+v", f)
	}
}
