package run

import (
	"os"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"peel/pkg/bundle"
)

// mighty is a container that nothing holds but AppArmor: every capability, no
// filter, no masks, and file systems of the kernel that can be written to.
func mighty(t *testing.T, profile string, args ...string) *specs.Spec {
	t.Helper()
	s := probeSpec(t, args...)
	w := bundle.Wishes{CapAdd: []string{"ALL"}}
	if err := w.Apply(s); err != nil {
		t.Fatal(err)
	}
	s.Linux.Seccomp, s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil, nil
	for i := range s.Mounts {
		s.Mounts[i].Options = slices.DeleteFunc(slices.Clone(s.Mounts[i].Options), func(o string) bool { return o == "ro" })
	}
	s.Process.ApparmorProfile = profile
	return s
}

func needAppArmor(t *testing.T) string {
	t.Helper()
	needRoot(t)
	profile := DefaultAppArmorProfile()
	if profile == "" {
		t.Skip("SKIPPED: the kernel does not use AppArmor")
	}
	return profile
}

func TestAppArmorHoldsWhatNothingElseDoes(t *testing.T) {
	profile := needAppArmor(t)
	rt := newRuntime(t)
	root := newRootfs(t, map[string]string{"etc/motd": "x", "mnt/": ""})
	const refused = "permission denied"
	for _, c := range []struct {
		name          string
		args          []string
		without, with string // part of what is said on either stream
	}{
		{"the label", []string{"cat", "/proc/self/attr/current"}, "unconfined", profile + " (enforce)"},
		{"a mount", []string{"mount", "/mnt"}, "mount <nil>", "mount permission denied"},
		{"the end of a mount", []string{"umount", "/dev/shm"}, "umount <nil>", "umount <nil>"},
		{"sysrq", []string{"write", "/proc/sysrq-trigger", "h"}, "", refused},
		{"a parameter of the kernel", []string{"write", "/proc/sys/kernel/printk_ratelimit", "5"}, "", refused},
		{"a parameter of its own", []string{"write", "/proc/sys/kernel/shmmni", "4096"}, "", ""},
		{"a setting of its own process", []string{"write", "/proc/self/oom_score_adj", "10"}, "", ""},
		{"a setting of the machine", []string{"write", "/sys/kernel/mm/ksm/run", "0"}, "", refused},
		{"firmware", []string{"ls", "/sys/firmware"}, "acpi", refused},
		{"its own files", []string{"write", "/etc/motd", "y"}, "", ""},
	} {
		for label, want := range map[string]string{"": c.without, profile: c.with} {
			r := runOnce(t, rt, root, mighty(t, label, c.args...), CreateOptions{})
			said := r.stdout + r.stderr
			if r.err != nil || !strings.Contains(said, want) || want == "" && said != "" {
				t.Errorf("%s, profile %q: %+v, want %q", c.name, label, r, want)
			}
		}
	}
}

func TestExecHasTheAppArmorProfileToo(t *testing.T) {
	profile := needAppArmor(t)
	rt := newRuntime(t)
	for _, noNew := range []bool{false, true} {
		s := mighty(t, profile, "wait")
		s.Process.NoNewPrivileges = noNew
		c, err := rt.Create(t.Context(), Rootfs{Dir: newRootfs(t, nil)}, s, CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.StartDetached(); err != nil {
			t.Fatal(err)
		}
		waitForLine(t, c, "ready")
		for _, user := range []string{"", "33"} {
			_, got, err := execOutput(t, c, ExecOptions{User: user}, "cat", "/proc/1/attr/current", "/proc/self/attr/current")
			if want := strings.Repeat(profile+" (enforce)\n", 2); got != want || err != nil {
				t.Errorf("no new privileges %v, user %q: %q, %v", noNew, user, got, err)
			}
		}
	}
}

func TestPartsOfSELinuxLabels(t *testing.T) {
	for _, c := range []struct{ own, changes, want string }{
		{"u:r:t:s0", "type:c_t", "u:r:c_t:s0"},
		{"u:r:t:s0-s0:c0.c1023", "level:s0:c1,c2 user:v role:q", "v:q:t:s0:c1,c2"},
		{"u:r:t", "level:s0", "u:r:t:s0"},
		{"u:r:t", "type:x type:y", "u:r:y"},
		{"kernel", "type:x", ""},
		{"u:r:t", "x:y", ""},
		{"u:r:t", "type:", ""},
		{"u:r:t", "type", ""},
		{"u:r:t", "type:a:b", ""},
	} {
		if got, err := changeLabel(c.own, strings.Fields(c.changes)); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s with %s: %q, %v, want %q", c.own, c.changes, got, err, c.want)
		}
	}
}

// The policy of the machine that this is made for (e2e/vm) has a type whose
// programs write to no file.
func TestSELinuxLabelsArePutOn(t *testing.T) {
	needRoot(t)
	const label = "system_u:system_r:peel_test_t"
	if err := os.WriteFile("/sys/fs/selinux/context", []byte(label), 0); err != nil {
		t.Skip("SKIPPED: needs SELinux with the policy of e2e/vm")
	}
	rt := newRuntime(t)
	root := newRootfs(t, map[string]string{"etc/motd": "x"})
	labelled := func(label string, args ...string) *specs.Spec {
		s := probeSpec(t, args...)
		s.Process.SelinuxLabel = label
		return s
	}
	for _, c := range []struct {
		label, want, wrote string
	}{
		{"", "system_u:system_r:kernel_t", ""},
		{label, label, "permission denied"},
	} {
		r := runOnce(t, rt, root, labelled(c.label, "cat", "/proc/self/attr/current"), CreateOptions{})
		if r.err != nil || strings.TrimRight(r.stdout, "\x00") != c.want {
			t.Errorf("asked for %q: %+v", c.label, r)
		}
		if r := runOnce(t, rt, root, labelled(c.label, "write", "/etc/motd", "y"), CreateOptions{}); r.err != nil || !strings.Contains(r.stderr, c.wrote) || c.wrote == "" && r.code != 0 {
			t.Errorf("asked for %q: wrote: %+v", c.label, r)
		}
	}
	if r := runOnce(t, rt, root, labelled("system_u:system_r:no_such_t", "exit", "0"), CreateOptions{}); r.err == nil || !strings.Contains(r.err.Error(), "SELinux label system_u:system_r:no_such_t") {
		t.Errorf("a label that the policy does not know: %+v", r)
	}
	c, err := rt.Create(t.Context(), Rootfs{Dir: root}, labelled(label, "wait"), CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.StartDetached(); err != nil {
		t.Fatal(err)
	}
	waitForLine(t, c, "ready")
	if _, got, err := execOutput(t, c, ExecOptions{}, "cat", "/proc/self/attr/current"); strings.TrimRight(got, "\x00") != label || err != nil {
		t.Errorf("exec has %q, %v", got, err)
	}
	if got, err := SELinuxLabel([]string{"type:peel_test_t"}); got != label || err != nil {
		t.Errorf("%q, %v, want %q", got, err, label)
	}
}
