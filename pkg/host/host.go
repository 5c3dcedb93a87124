// Package host tells what of a machine containers need, and what to do where it is
// missing. All is read from files of the kernel and the system: nothing is tried,
// loaded or changed, so the answers are the same for whoever asks, and there at once.
package host

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
)

// Level is how much a finding matters.
type Level string

const (
	OK   Level = "ok"
	Warn Level = "warn" // something will not work, or not as well
	Fail Level = "fail" // no container runs
)

// Finding is what is known of one thing.
type Finding struct {
	Subject string `json:"subject"`
	Level   Level  `json:"level"`
	Text    string `json:"text"`
	Fix     string `json:"fix,omitempty"` // what to do, unless all is well
}

// Machine is a machine and somebody who wants to run containers on it.
type Machine struct {
	FS   fs.FS // the root directory
	UID  int
	User string // empty for one whom the system does not know
	// IDs is how many ids he can have in a user namespace.
	IDs uint64
	// Writable says whether he may write to a file.
	Writable func(name string) bool
}

// Obstacle is the first finding for which no container runs.
type Obstacle struct{ Finding }

func (o *Obstacle) Error() string {
	return fmt.Sprintf("no container can run here: %s: %s", o.Subject, o.Text)
}

// Check looks at everything.
func (m *Machine) Check() []Finding {
	all := []Finding{m.kernel(), m.null(), m.seccomp(), m.privileges(), m.userNamespaces()}
	if m.UID != 0 {
		all = append(all, m.subordinate())
	}
	return append(all, m.overlay(), m.cgroups(), m.lsm())
}

// Obstacle is nil, or an *Obstacle.
func (m *Machine) Obstacle() error {
	for _, f := range m.Check() {
		if f.Level == Fail {
			return &Obstacle{f}
		}
	}
	return nil
}

func ok(subject, text string) Finding { return Finding{Subject: subject, Level: OK, Text: text} }

// oldest is the first Linux with all that a container takes: mount_setattr(2).
const oldest = "5.12"

func (m *Machine) kernel() Finding {
	release := m.line("proc/sys/kernel/osrelease")
	f := ok("kernel", "Linux "+release)
	if !atLeast(release, 5, 12) {
		f.Level, f.Text, f.Fix = Fail, f.Text+" is older than "+oldest, "install a newer kernel"
	}
	return f
}

// atLeast compares "6.1.0-13-amd64". What is no version is none.
func atLeast(release string, major, minor int) bool {
	var a, b int
	if n, _ := fmt.Sscanf(release, "%d.%d", &a, &b); n != 2 {
		return false
	}
	return a > major || a == major && b >= minor
}

// null is what files are hidden behind.
func (m *Machine) null() Finding {
	info, err := fs.Stat(m.FS, "dev/null")
	if err != nil || info.Mode()&fs.ModeCharDevice == 0 {
		return Finding{"/dev/null", Fail, "is not the null device", "rm -f /dev/null && mknod -m 666 /dev/null c 1 3"}
	}
	return ok("/dev/null", "is the null device")
}

func (m *Machine) seccomp() Finding {
	if !strings.Contains(m.line("proc/sys/kernel/seccomp/actions_avail"), "errno") {
		return Finding{"seccomp", Fail, "this kernel filters no system calls", "use a kernel with CONFIG_SECCOMP_FILTER, or 'peel run --security-opt seccomp=unconfined'"}
	}
	return ok("seccomp", "system calls can be filtered")
}

// capSysAdmin is the bit of CAP_SYS_ADMIN.
const capSysAdmin = 21

func (m *Machine) privileges() Finding {
	if m.UID != 0 {
		return ok("privileges", "a user: containers get a user namespace")
	}
	for line := range strings.Lines(m.read("proc/self/status")) {
		word, found := strings.CutPrefix(line, "CapEff:")
		if caps, err := strconv.ParseUint(strings.TrimSpace(word), 16, 64); found && err == nil && caps&(1<<capSysAdmin) == 0 {
			return Finding{"privileges", Fail, "this root has no CAP_SYS_ADMIN, as in a container", "run peel outside of it, or give it that capability"}
		}
	}
	return ok("privileges", "root")
}

// userNamespaces may be forbidden in more than one way.
func (m *Machine) userNamespaces() Finding {
	const subject = "user namespaces"
	level := Fail
	if m.UID == 0 {
		level = Warn // only what a config asks for
	}
	switch {
	case m.line("proc/sys/user/max_user_namespaces") == "":
		return Finding{subject, level, "this kernel has none", "use a kernel with CONFIG_USER_NS, or run peel as root"}
	case m.line("proc/sys/user/max_user_namespaces") == "0":
		return Finding{subject, level, "none may be made (user.max_user_namespaces = 0)", "sudo sysctl -w user.max_user_namespaces=15000"}
	case m.UID == 0:
		return ok(subject, "can be made")
	case m.line("proc/sys/kernel/unprivileged_userns_clone") == "0":
		return Finding{subject, level, "users may make none (kernel.unprivileged_userns_clone = 0)", "sudo sysctl -w kernel.unprivileged_userns_clone=1"}
	case m.line("proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1" && m.appArmor() && m.confinedUserNS():
		return Finding{subject, level, "AppArmor takes away what users can do in theirs (kernel.apparmor_restrict_unprivileged_userns = 1)",
			"let peel have them by a profile in /etc/apparmor.d/peel: 'abi <abi/4.0>, profile peel PATH_OF_PEEL flags=(unconfined) { userns, }', and 'sudo apparmor_parser -r' it; or for everybody: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"}
	}
	return ok(subject, "can be made by users")
}

func (m *Machine) appArmor() bool { return m.line("sys/module/apparmor/parameters/enabled") == "Y" }

// confinedUserNS: a program without a profile of its own is the one that is
// restricted; a profile that is unconfined in name allows what it says, which is the
// reason to have one.
func (m *Machine) confinedUserNS() bool {
	label := m.line("proc/self/attr/apparmor/current")
	if label == "" {
		label = m.line("proc/self/attr/current")
	}
	return label == "unconfined" || label == ""
}

func (m *Machine) subordinate() Finding {
	const subject = "subordinate ids"
	if m.IDs > 1 {
		return ok(subject, fmt.Sprintf("%d ids for containers", m.IDs))
	}
	f := Finding{subject, Warn, "", ""}
	who := m.User
	if who == "" {
		who = strconv.Itoa(m.UID)
	}
	switch {
	case !m.exists("usr/bin/newuidmap") && !m.exists("usr/sbin/newuidmap") && !m.exists("bin/newuidmap"):
		f.Text, f.Fix = "newuidmap and newgidmap are missing", "install the package uidmap (Debian, Ubuntu) or shadow-utils (Fedora)"
	default:
		f.Text, f.Fix = fmt.Sprintf("/etc/subuid and /etc/subgid have none for %s", who),
			"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 "+who
	}
	f.Text += ": root is the only user in containers"
	return f
}

func (m *Machine) overlay() Finding {
	const subject = "overlay"
	switch {
	case !strings.Contains(m.read("proc/filesystems"), "\toverlay\n"):
		return Finding{subject, Warn, "is not loaded: containers change their files in place", "sudo modprobe overlay"}
	case m.UID != 0 && !atLeast(m.line("proc/sys/kernel/osrelease"), 5, 11):
		return Finding{subject, Warn, "is not for users before Linux 5.11", "install a newer kernel"}
	}
	return ok(subject, "there")
}

func (m *Machine) lsm() Finding {
	names := m.line("sys/kernel/security/lsm")
	if names == "" {
		return ok("security modules", "unknown: securityfs is not mounted, or not for this user")
	}
	return ok("security modules", strings.ReplaceAll(names, ",", ", "))
}

func (m *Machine) exists(name string) bool {
	_, err := fs.Stat(m.FS, name)
	return err == nil
}

// maxFile bounds what is read of a file; the largest have some kilobytes.
const maxFile = 256 << 10

// read is empty for what cannot be read.
func (m *Machine) read(name string) string {
	f, err := m.FS.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil && !errors.Is(err, io.EOF) {
		return ""
	}
	return string(b)
}

func (m *Machine) line(name string) string {
	return strings.TrimSpace(strings.Trim(m.read(name), "\x00"))
}
