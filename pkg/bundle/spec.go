// Package bundle turns an image config into the config.json of an OCI runtime
// bundle: what image-spec conversion.md asks, with docker's defaults for all that
// an image does not say, so that a container behaves as its authors have seen it
// behave under docker, and is confined no less.
//
//	image config --\
//	                Spec --> *specs.Spec, which is config.json
//	/etc/passwd  --/
//
// The result names "rootfs" as its root and is complete: any OCI runtime can run
// it as it is. What docker sets up at run time from state of its own has no place
// in it: volumes, published ports, /etc/hosts and /etc/resolv.conf, LSM labels.
package bundle

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/profiles/seccomp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	"peel/internal/beneath"
	"peel/internal/users"
)

// Options overrides what the image says. The zero value takes all from the image
// and makes the bundle of a root user.
type Options struct {
	Entrypoint []string // replaces the image's Entrypoint and, as in docker, drops its Cmd
	Cmd        []string // replaces the image's Cmd
	User       string   // replaces the image's User
	Cwd        string   // replaces the image's WorkingDir
	Env        []string // NAME=value goes over the image's Env, NAME alone takes it away

	Hostname string // "peel" if empty
	Terminal bool   // the process gets a terminal, and TERM

	// HostNetwork leaves the process in the network namespace of whoever runs
	// the bundle. Otherwise it gets its own, with nothing in it but a loopback.
	HostNetwork bool

	// UIDMappings and GIDMappings, unless empty, put the container into a user
	// namespace with these ids.
	UIDMappings, GIDMappings []specs.LinuxIDMapping

	// Unprivileged leaves out what runtimes cannot set, and so refuse, when they
	// are run by somebody who is not root: device rules, the OOM score and
	// supplementary groups. It goes with mappings.
	Unprivileged bool

	// Warn, unless nil, is told of what the image asks for and does not get.
	Warn func(message string)
}

// version is the first one that has all that is used here. Runtimes look at it:
// crun up to 1.8 runs nothing that is not 1.0.
const version = "1.0.2"

const defaultHostname = "peel"

// Spec makes the runtime's configuration for an image. User names are resolved by
// the files of the rootfs, an open directory that stays the caller's; it may lie
// anywhere. Errors about the user are those of package users.
//
// Where neither image nor options name a command, Process.Args is empty: such a
// bundle is valid, but cannot be started until somebody adds one.
func Spec(img ocispec.Image, rootfs *os.File, o Options) (*specs.Spec, error) {
	user := img.Config.User
	if o.User != "" {
		user = o.User
	}
	u, err := users.Lookup(beneath.New(rootfs), user)
	if err != nil {
		return nil, err
	}
	hostname := o.Hostname
	if hostname == "" {
		hostname = defaultHostname
	}
	s := &specs.Spec{
		Version:  version,
		Hostname: hostname,
		Root:     &specs.Root{Path: "rootfs"},
		Process: &specs.Process{
			Terminal:     o.Terminal,
			User:         specs.User{UID: u.UID, GID: u.GID, AdditionalGids: u.Groups},
			Args:         args(img.Config, o),
			Env:          env(img.Config, u.Home, hostname, o),
			Cwd:          cwd(img.Config, o),
			Capabilities: capabilities(u.UID),
			OOMScoreAdj:  new(int),
		},
		Mounts:      mounts(),
		Annotations: annotations(img, o.Warn),
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
	if o.HostNetwork {
		shareNetwork(s)
	}
	if len(o.UIDMappings)+len(o.GIDMappings) > 0 {
		enterUserNamespace(s, o)
	}
	if o.Unprivileged {
		s.Linux.Resources, s.Process.OOMScoreAdj, s.Process.User.AdditionalGids = nil, nil, nil
	}
	// For this kernel and architecture, and for the capabilities set above.
	s.Linux.Seccomp, err = seccomp.GetDefaultProfile(s)
	return s, err
}

func args(c ocispec.ImageConfig, o Options) []string {
	entrypoint, cmd := c.Entrypoint, c.Cmd
	if len(o.Entrypoint) > 0 {
		entrypoint, cmd = o.Entrypoint, nil
	}
	if len(o.Cmd) > 0 {
		cmd = o.Cmd
	}
	return slices.Concat(entrypoint, cmd)
}

// cwd is absolute, or runtimes refuse it.
func cwd(c ocispec.ImageConfig, o Options) string {
	dir := c.WorkingDir
	if o.Cwd != "" {
		dir = o.Cwd
	}
	if path.IsAbs(dir) {
		return dir
	}
	return path.Join("/", dir)
}

// defaultPath is docker's.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// env is docker's environment: defaults, over them the image's, over them the
// caller's. HOME comes last, and only if nobody has set it.
func env(c ocispec.ImageConfig, home, hostname string, o Options) []string {
	vars := []string{"PATH=" + defaultPath, "HOSTNAME=" + hostname}
	if o.Terminal {
		vars = append(vars, "TERM=xterm")
	}
	image := slices.DeleteFunc(slices.Clone(c.Env), impossible)
	if n := len(c.Env) - len(image); n > 0 && o.Warn != nil {
		o.Warn(fmt.Sprintf("left out of the environment, as no program can be given it: %d of the image's variables", n))
	}
	vars = override(override(vars, image), o.Env)
	if home == "" {
		home = "/"
	}
	if indexVar(vars, "HOME") < 0 {
		vars = append(vars, "HOME="+home)
	}
	return vars
}

// impossible is a variable that execve(2) cannot pass on, or getenv(3) not find: with
// it, runtimes run nothing.
func impossible(v string) bool { return strings.HasPrefix(v, "=") || strings.Contains(v, "\x00") }

// override puts variables over others of the same name. One without "=" takes the
// name away; it could not be passed on either.
func override(vars, over []string) []string {
	for _, v := range over {
		name, _, hasValue := strings.Cut(v, "=")
		i := indexVar(vars, name)
		switch {
		case i >= 0 && hasValue:
			vars[i] = v
		case i >= 0:
			vars = slices.Delete(vars, i, i+1)
		case hasValue:
			vars = append(vars, v)
		}
	}
	return vars
}

func indexVar(vars []string, name string) int {
	return slices.IndexFunc(vars, func(v string) bool { return strings.HasPrefix(v, name+"=") })
}

// shareNetwork takes away what belongs to a network namespace of one's own.
func shareNetwork(s *specs.Spec) {
	s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool {
		return n.Type == specs.NetworkNamespace
	})
	s.Linux.Sysctl = nil
}

// enterUserNamespace adds a user namespace and takes away what cannot be done in it.
func enterUserNamespace(s *specs.Spec, o Options) {
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings, s.Linux.GIDMappings = o.UIDMappings, o.GIDMappings
	delete(s.Linux.Sysctl, pingSysctl) // the kernel wants its groups to be mapped
	for i := range s.Mounts {
		m := &s.Mounts[i]
		switch {
		case m.Destination == "/dev/pts" && !mapped(o.GIDMappings, ttyGroup):
			m.Options = slices.DeleteFunc(m.Options, func(s string) bool { return strings.HasPrefix(s, "gid=") })
		case m.Destination == "/sys" && o.HostNetwork:
			// A sysfs shows a network namespace, and who does not own that cannot
			// mount one. The host's will do; the mount below goes over its cgroups,
			// which would be writable (CVE-2023-25809).
			m.Type, m.Source = "none", "/sys"
			m.Options = append([]string{"rbind"}, m.Options...)
		}
	}
}

func mapped(ids []specs.LinuxIDMapping, id uint32) bool {
	return slices.ContainsFunc(ids, func(m specs.LinuxIDMapping) bool { return id-m.ContainerID < m.Size && id >= m.ContainerID })
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
