package run

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Wishes change a config in the ways that `run` has flags for, by docker's rules.
// The zero value changes nothing.
type Wishes struct {
	// Args replaces the command.
	Args []string
	// Env goes over the config's; NAME without "=" takes a variable away.
	Env      []string
	Cwd      string
	Hostname string
	Terminal bool
	// CapAdd and CapDrop are names with or without CAP_, or ALL. What is dropped
	// by name goes, what is added by name stays, and ALL counts before names.
	CapAdd, CapDrop []string
	// ReadOnly makes the root file system read-only.
	ReadOnly        bool
	NoNewPrivileges bool
	AppArmor        string
	// HostNetwork takes away the container's own network namespace.
	HostNetwork bool
	Mounts      []specs.Mount
	Limits      Limits
	Rlimits     []specs.POSIXRlimit
}

// Limits on resources; zero is none.
type Limits struct {
	Memory     int64   // bytes
	MemorySwap int64   // memory and swap together, bytes; -1 is no limit
	CPUs       float64 // processors' worth of time
	CPUShares  uint64
	CPUSet     string // "0-3,8"
	Pids       int64  // -1 is no limit
}

// Apply changes spec. The seccomp profile is not touched: see DefaultSeccomp.
func (w *Wishes) Apply(spec *specs.Spec) error {
	p := spec.Process
	if len(w.Args) > 0 {
		p.Args = w.Args
	}
	for _, e := range w.Env {
		p.Env = setEnv(p.Env, e)
	}
	if w.Cwd != "" {
		if !filepath.IsAbs(w.Cwd) {
			return fmt.Errorf("working directory %q is not absolute", w.Cwd)
		}
		p.Cwd = w.Cwd
	}
	if w.Hostname != "" {
		if err := checkHostname(w.Hostname); err != nil {
			return err
		}
		spec.Hostname = w.Hostname
		p.Env = setEnv(p.Env, "HOSTNAME="+w.Hostname)
	}
	if w.Terminal {
		p.Terminal = true
		if !slices.ContainsFunc(p.Env, func(e string) bool { return strings.HasPrefix(e, "TERM=") }) {
			p.Env = append(p.Env, "TERM=xterm")
		}
	}
	if err := w.capabilities(p); err != nil {
		return err
	}
	if w.ReadOnly {
		spec.Root.Readonly = true
	}
	if w.NoNewPrivileges {
		p.NoNewPrivileges = true
	}
	if w.AppArmor != "" {
		p.ApparmorProfile = w.AppArmor
	}
	if w.HostNetwork {
		shareNetwork(spec)
	}
	p.Rlimits = append(p.Rlimits, w.Rlimits...)
	w.mounts(spec)
	return w.Limits.apply(spec)
}

// checkHostname is sethostname(2)'s bound and the letters of RFC 1123.
func checkHostname(name string) error {
	ok := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_'
	}
	if len(name) > 64 || strings.ContainsFunc(name, func(c rune) bool { return !ok(c) }) || name[0] == '-' {
		return fmt.Errorf("host name %q: want at most 64 letters, digits, dots and hyphens", name)
	}
	return nil
}

func (w *Wishes) capabilities(p *specs.Process) error {
	if len(w.CapAdd)+len(w.CapDrop) == 0 {
		return nil
	}
	var have []string
	if p.Capabilities != nil {
		have = p.Capabilities.Bounding
	}
	add, addAll, err := capabilityNames(w.CapAdd)
	if err != nil {
		return err
	}
	drop, dropAll, err := capabilityNames(w.CapDrop)
	if err != nil {
		return err
	}
	if dropAll {
		have = nil
	}
	if addAll {
		if have, err = availableCapabilities(); err != nil {
			return err
		}
	}
	list := slices.Clone(have)
	list = slices.DeleteFunc(list, func(c string) bool { return slices.Contains(drop, c) })
	for _, c := range add {
		if !slices.Contains(list, c) {
			list = append(list, c)
		}
	}
	p.Capabilities = setCapabilities(list)
	return nil
}

// capabilityNames brings names into the form of the config and checks them.
func capabilityNames(list []string) (names []string, all bool, err error) {
	for _, word := range list {
		name := "CAP_" + strings.TrimPrefix(strings.ToUpper(word), "CAP_")
		switch {
		case name == "CAP_ALL":
			all = true
		case !knownCapability(name):
			return nil, false, fmt.Errorf("unknown capability %q", word)
		default:
			names = append(names, name)
		}
	}
	return names, all, nil
}

// shareNetwork puts the container into the caller's network namespace, and takes
// away what would then be set on the host.
func shareNetwork(spec *specs.Spec) {
	spec.Linux.Namespaces = slices.DeleteFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool {
		return n.Type == specs.NetworkNamespace
	})
	for key := range spec.Linux.Sysctl {
		if strings.HasPrefix(key, "net.") {
			delete(spec.Linux.Sysctl, key)
		}
	}
}

// mounts adds mounts; one at the place of another replaces it, as in docker.
func (w *Wishes) mounts(spec *specs.Spec) {
	for _, m := range w.Mounts {
		spec.Mounts = slices.DeleteFunc(spec.Mounts, func(have specs.Mount) bool {
			return filepath.Clean(have.Destination) == filepath.Clean(m.Destination)
		})
		spec.Mounts = append(spec.Mounts, m)
	}
}

// cpuPeriod is the scheduler's default, in microseconds.
const cpuPeriod = 100_000

func (l Limits) apply(spec *specs.Spec) error {
	if l == (Limits{}) {
		return nil
	}
	if spec.Linux.Resources == nil {
		spec.Linux.Resources = &specs.LinuxResources{}
	}
	r := spec.Linux.Resources
	if l.Memory != 0 || l.MemorySwap != 0 {
		if l.Memory < 6<<20 && l.Memory != 0 {
			return fmt.Errorf("memory limit of %d bytes: the least is 6 MiB", l.Memory)
		}
		swap := l.MemorySwap
		if swap == 0 {
			swap = 2 * l.Memory // docker's rule
		}
		if swap > 0 && swap < l.Memory {
			return fmt.Errorf("memory and swap together (%d bytes) are less than memory (%d)", swap, l.Memory)
		}
		r.Memory = &specs.LinuxMemory{Limit: &l.Memory, Swap: &swap}
	}
	if l.CPUs < 0 {
		return fmt.Errorf("%g processors", l.CPUs)
	}
	if l.CPUs > 0 || l.CPUShares > 0 || l.CPUSet != "" {
		r.CPU = &specs.LinuxCPU{Cpus: l.CPUSet}
		if l.CPUs > 0 {
			quota, period := int64(l.CPUs*cpuPeriod+0.5), uint64(cpuPeriod)
			if quota < 1000 {
				return fmt.Errorf("%g processors: the least is 0.01", l.CPUs)
			}
			r.CPU.Quota, r.CPU.Period = &quota, &period
		}
		if l.CPUShares > 0 {
			r.CPU.Shares = &l.CPUShares
		}
	}
	if l.Pids != 0 {
		r.Pids = &specs.LinuxPids{Limit: &l.Pids}
	}
	return nil
}

// ParseVolume reads docker's -v SOURCE:TARGET[:OPTIONS], for a SOURCE that is a
// path of the host.
func ParseVolume(word string) (specs.Mount, error) {
	source, rest, ok := strings.Cut(word, ":")
	target, options, _ := strings.Cut(rest, ":")
	switch {
	case !ok:
		return specs.Mount{}, fmt.Errorf("volume %q: want SOURCE:TARGET[:OPTIONS]", word)
	case !strings.HasPrefix(source, "/") && !strings.HasPrefix(source, "."):
		return specs.Mount{}, fmt.Errorf("volume %q: SOURCE must be a path; named volumes are not supported", word)
	case !filepath.IsAbs(target) || filepath.Clean(target) == "/":
		return specs.Mount{}, fmt.Errorf("volume %q: TARGET must be an absolute path below /", word)
	}
	source, err := filepath.Abs(source)
	if err != nil {
		return specs.Mount{}, err
	}
	m := specs.Mount{Type: "bind", Source: source, Destination: filepath.Clean(target), Options: []string{"rbind"}}
	if options == "" {
		return m, nil
	}
	for o := range strings.SplitSeq(options, ",") {
		switch o {
		case "ro":
			// What is mounted below the source is read-only too.
			m.Options = append(m.Options, "ro", "rro")
		case "rw":
		case "rprivate", "private", "rslave", "slave", "rshared", "shared", "nosuid", "nodev", "noexec":
			m.Options = append(m.Options, o)
		default:
			return specs.Mount{}, fmt.Errorf("volume %q: option %q is not supported", word, o)
		}
	}
	return m, nil
}
