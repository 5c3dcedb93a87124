package run

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// witnesses run the same bundle as we do.
var witnesses = []string{"runc", "crun"}

// witness runs a bundle under another runtime and returns what the probe said.
func witness(t *testing.T, runtime, dir string) []byte {
	t.Helper()
	id := fmt.Sprintf("peel-witness-%d", os.Getpid())
	args := []string{runtime, "--root", t.TempDir(), "run", id}
	if runtime == "crun" && isMountpoint("/sys/fs/cgroup/unified") {
		// crun refuses a host with both versions of cgroups.
		args = append([]string{"unshare", "-m", "--propagation", "private", "sh", "-c", `umount /sys/fs/cgroup/unified && exec "$@"`, "sh"}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Stdin = strings.NewReader("") // crun gives its streams away, also the host's /dev/null
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", runtime, err, &stderr)
	}
	return out
}

func isMountpoint(dir string) bool {
	b, _ := os.ReadFile("/proc/self/mountinfo")
	return strings.Contains(string(b), " "+dir+" ")
}

// explained are the differences from a witness that are meant: the key of the
// report, what must be in ours or theirs, and why.
var explained = []struct{ runtime, key, has, why string }{
	{"", "mounts", "/sys/fs/cgroup tmpfs", "with ro asked for, the directory of the hierarchies is read-only too; runc 1.1 and crun leave it writable"},
	{"runc", "readonly", "/sys/kernel/mm/ksm/run", "a user is refused there either way: runc marks the file system read-only, peel and crun the mount, which is asked later"},
	{"", "mounts", "/proc/acpi tmpfs", "masks of directories are nosuid, nodev and noexec, which runc 1.1 leaves out"},
	{"", "mounts", "/proc/scsi tmpfs", "as above"},
	{"", "mounts", "/sys/firmware tmpfs", "as above"},
	{"", "mounts", "/sys/devices/virtual/powercap tmpfs", "as above"},
	{"", "mounts", "thermal_throttle tmpfs", "as above"},
	{"", "mounts", "/proc/asound tmpfs", "as above"},
	{"", "mounts", "/proc/interrupts ", "masks of files are the host's null device, as the container's /dev is not to be trusted; runc takes that one (CVE-2025-31133)"},
	{"", "mounts", "/proc/kcore ", "as above"},
	{"", "mounts", "/proc/keys ", "as above"},
	{"", "mounts", "/proc/latency_stats ", "as above"},
	{"", "mounts", "/proc/sched_debug ", "as above"},
	{"", "mounts", "/proc/timer_list ", "as above"},
	{"crun", "mounts", " proc ro", "crun 1.8 takes nosuid, nodev and noexec off the read-only parts of /proc"},
	{"crun", "mounts", "/sys/fs/cgroup/unified ", "hidden from crun, see witness"},
	{"", "dev", "/dev/core ", "runc and crun link /dev/core to /proc/kcore, which is masked"},
	{"crun", "cgroup", "0::", "hidden from crun, see witness"},
}

func isExplained(runtime, key, line string) bool {
	return slices.ContainsFunc(explained, func(e struct{ runtime, key, has, why string }) bool {
		return (e.runtime == "" || e.runtime == runtime) && e.key == key && strings.Contains(line, e.has)
	})
}

var receives = regexp.MustCompile(`\bmaster:[0-9]+`)

// flatten makes lines of a report, so that two can be compared as sets.
func flatten(t *testing.T, report []byte) []string {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(report, &m); err != nil {
		t.Fatalf("%v: %.200s", err, report)
	}
	var lines []string
	for key, v := range m {
		switch v := v.(type) {
		case []any:
			for _, x := range v {
				lines = append(lines, fmt.Sprint(key, "\t", x))
			}
		case map[string]any:
			for k, x := range v {
				switch key {
				case "namespaces", "fds":
					x = "" // numbers that differ; which there are counts
				}
				lines = append(lines, fmt.Sprint(key, "\t", k, " ", x))
			}
		default:
			lines = append(lines, fmt.Sprint(key, "\t", v))
		}
	}
	return lines
}

func TestWitnessesSeeTheSameFromInside(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	for _, c := range []struct {
		name   string
		change func(*specs.Spec)
	}{
		{"docker's defaults", func(*specs.Spec) {}},
		{"a user, limits, and nothing new", func(s *specs.Spec) {
			s.Process.User = specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{1000, 4, 44}}
			s.Process.NoNewPrivileges = true
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 100, Hard: 200}, {Type: "RLIMIT_CORE", Soft: 0, Hard: 0}}
			s.Process.Cwd = "/made/up"
			s.Hostname = "box"
			score := 100
			s.Process.OOMScoreAdj = &score
		}},
		{"every set of capabilities", func(s *specs.Spec) {
			caps := []string{"CAP_NET_RAW", "CAP_KILL"}
			s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: append(caps, "CAP_CHOWN"), Effective: caps[:1], Permitted: caps, Inheritable: caps, Ambient: caps[:1]}
			s.Process.User.UID = 7
		}},
		{"no capabilities", func(s *specs.Spec) { s.Process.Capabilities = &specs.LinuxCapabilities{} }},
		{"read-only root, the host's network and names", func(s *specs.Spec) {
			s.Root.Readonly = true
			s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool {
				return n.Type == specs.NetworkNamespace || n.Type == specs.UTSNamespace
			})
		}},
		{"mounts", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts,
				specs.Mount{Destination: "/a", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "noatime", "size=1m", "mode=0700"}},
				specs.Mount{Destination: "/b", Type: "bind", Source: "/etc", Options: []string{"rbind", "ro", "nodev"}},
				specs.Mount{Destination: "/c/d/file", Type: "bind", Source: "/etc/hostname", Options: []string{"bind", "noexec"}})
		}},
		{"without seccomp and cgroup namespace", func(s *specs.Spec) {
			s.Linux.Seccomp = nil
			s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.CgroupNamespace })
			s.Mounts = slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool { return m.Type == "cgroup" })
			s.Linux.CgroupsPath = "/peel-witness"
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := newRootfs(t, map[string]string{"made/": "", "a/": "", "b/": "", "c/d/file": ""})
			s := probeSpec(t, "report")
			s.Version = "1.0.2" // crun 1.8 knows no later one
			c.change(s)
			ours := runOnce(t, rt, root, s, CreateOptions{})
			if ours.err != nil || ours.code != 0 {
				t.Fatalf("%+v", ours)
			}
			mine := flatten(t, []byte(ours.stdout))
			writeConfig(t, root, s)
			for _, runtime := range witnesses {
				if _, err := exec.LookPath(runtime); err != nil {
					t.Logf("SKIPPED: no %s to compare with", runtime)
					continue
				}
				// Where the host's mounts are shared, theirs receive what is mounted on
				// the host later; ours are private unless the config asks for that.
				private := receives.ReplaceAll(witness(t, runtime, filepath.Dir(root)), nil)
				theirs := flatten(t, private)
				report := func(who string, lines, other []string) {
					for _, l := range lines {
						key, line, _ := strings.Cut(l, "\t")
						if !slices.Contains(other, l) && !isExplained(runtime, key, line) {
							t.Errorf("%s has %s: %s", who, key, line)
						}
					}
				}
				report("peel (not "+runtime+")", mine, theirs)
				report(runtime+" (not peel)", theirs, mine)
			}
		})
	}
}

func writeConfig(t *testing.T, root string, s *specs.Spec) {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(root), "config.json"), b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// The filter that libseccomp makes of docker's profile, by the mouth of runc, is
// the judge of ours: every call gets the same answer.
func TestWitnessesRefuseTheSameCalls(t *testing.T) {
	needRoot(t)
	if _, err := exec.LookPath("runc"); err != nil {
		t.Skip("SKIPPED: no runc to compare with")
	}
	rt := newRuntime(t)
	root := newRootfs(t, nil)
	s := probeSpec(t, "syscalls")
	s.Version = "1.0.2"
	// Calls that the old libseccomp of a distribution does not know would be
	// left out of its filter: they get the default action there, and by the rule
	// of runc ENOSYS above the last known one.
	const newestKnown = 448
	const uretprobe = 335 // of 2024, in a gap
	ours := runOnce(t, rt, root, s, CreateOptions{})
	if ours.err != nil {
		t.Fatal(ours.err)
	}
	writeConfig(t, root, s)
	mine := strings.Split(ours.stdout, "\n")
	theirs := strings.Split(string(witness(t, "runc", filepath.Dir(root))), "\n")
	if len(mine) != len(theirs) || len(mine) < 400 {
		t.Fatalf("%d answers, runc has %d", len(mine), len(theirs))
	}
	for i := range mine {
		var nr int
		fmt.Sscan(mine[i], &nr)
		if mine[i] != theirs[i] && nr <= newestKnown && nr != uretprobe {
			t.Errorf("call %s under runc, %s under peel", theirs[i], mine[i])
		}
	}
}
