package run

import (
	"fmt"
	"os"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"peel/pkg/run/internal/apparmor"
)

// DefaultAppArmorProfile names the AppArmor profile that a container should have
// where nothing else is wished. A container that is to have it loads it when it
// starts. It is empty where the kernel does not use AppArmor, or this process
// cannot load profiles.
func DefaultAppArmorProfile() string {
	if !apparmor.CanLoad() {
		return ""
	}
	return apparmor.DefaultName
}

// readyLabels sees to it that the kernel can give a process its labels. Whether it
// does, the guest finds out.
func readyLabels(p *specs.Process, mountLabel string) error {
	if name := p.ApparmorProfile; name != "" {
		if !apparmor.Enabled() {
			return &UnsupportedError{"process.apparmorProfile", "this kernel does not use AppArmor"}
		}
		if name == apparmor.DefaultName {
			if err := apparmor.LoadDefault(); err != nil {
				return fmt.Errorf("AppArmor: %w", err)
			}
		}
	}
	for field, label := range map[string]string{"process.selinuxLabel": p.SelinuxLabel, "linux.mountLabel": mountLabel} {
		if label != "" && !usesSELinux() {
			return &UnsupportedError{field, "this kernel does not use SELinux"}
		}
	}
	return nil
}

// SELinuxLabel is this process's own SELinux label with parts replaced, in docker's
// words: "user:U", "role:R", "type:T", "level:L".
func SELinuxLabel(changes []string) (string, error) {
	if !usesSELinux() {
		return "", &UnsupportedError{"process.selinuxLabel", "this kernel does not use SELinux"}
	}
	own, err := os.ReadFile("/proc/thread-self/attr/current")
	if err != nil {
		return "", err
	}
	return changeLabel(strings.TrimRight(string(own), "\x00\n"), changes)
}

// changeLabel replaces parts of user:role:type:level. Only the level may have
// colons of its own, and policies without levels have none.
func changeLabel(label string, changes []string) (string, error) {
	parts := strings.SplitN(label, ":", 4)
	if len(parts) < 3 {
		return "", fmt.Errorf("SELinux label %q: want user:role:type[:level]", label)
	}
	for _, c := range changes {
		key, value, _ := strings.Cut(c, ":")
		at := slices.Index([]string{"user", "role", "type", "level"}, key)
		switch {
		case at < 0 || value == "" || strings.ContainsAny(value, " \x00\n") || at < 3 && strings.Contains(value, ":"):
			return "", fmt.Errorf("SELinux label: %q: want user:NAME, role:NAME, type:NAME or level:LEVEL", c)
		case at == len(parts):
			parts = append(parts, value)
		default:
			parts[at] = value
		}
	}
	return strings.Join(parts, ":"), nil
}

// usesSELinux: its file system is there only where it was not turned off at boot.
func usesSELinux() bool {
	var st unix.Statfs_t
	if err := unix.Statfs("/sys/fs/selinux", &st); err != nil || st.Type != unix.SELINUX_MAGIC {
		return false
	}
	_, err := os.Stat("/sys/fs/selinux/enforce")
	return err == nil
}
