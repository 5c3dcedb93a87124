package bundle

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
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
	// AppArmor is the name of a profile, or unconfined for none.
	AppArmor string
	// SELinux is the label of the process.
	SELinux string
	// HostNetwork takes away the container's own network namespace.
	HostNetwork bool
	// Mounts take the place of those at the same destination.
	Mounts  []specs.Mount
	Limits  Limits
	Rlimits []specs.POSIXRlimit
	Seccomp Seccomp
}

// WishError is a wish that cannot be meant.
type WishError struct{ Err error }

func (e *WishError) Error() string { return e.Err.Error() }
func (e *WishError) Unwrap() error { return e.Err }

// Apply changes spec, which has a root, a process and a linux part. *WishError.
func (w *Wishes) Apply(spec *specs.Spec) error {
	if w.ReadOnly {
		spec.Root.Readonly = true
	}
	if w.HostNetwork {
		shareNetwork(spec)
	}
	for _, m := range w.Mounts {
		spec.Mounts = place(spec.Mounts, m)
	}
	err := w.process(spec)
	if err == nil {
		err = w.Limits.apply(spec)
	}
	if err == nil {
		err = w.Seccomp.apply(spec) // which looks at the capabilities
	}
	if err != nil {
		return &WishError{err}
	}
	return nil
}

func (w *Wishes) process(spec *specs.Spec) error {
	p := spec.Process
	if len(w.Args) > 0 {
		p.Args = w.Args
	}
	p.Env = override(p.Env, w.Env)
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
		p.Env = override(p.Env, []string{"HOSTNAME=" + w.Hostname})
	}
	if w.Terminal {
		p.Terminal = true
		if indexVar(p.Env, "TERM") < 0 {
			p.Env = append(p.Env, "TERM=xterm")
		}
	}
	if w.NoNewPrivileges {
		p.NoNewPrivileges = true
	}
	switch w.AppArmor {
	case "":
	case "unconfined":
		p.ApparmorProfile = ""
	default:
		p.ApparmorProfile = w.AppArmor
	}
	if w.SELinux != "" {
		p.SelinuxLabel = w.SELinux
	}
	p.Rlimits = append(p.Rlimits, w.Rlimits...)
	return w.capabilities(p)
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

// shareNetwork takes away what belongs to a network namespace of one's own: it
// would be the host's.
func shareNetwork(s *specs.Spec) {
	s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool {
		return n.Type == specs.NetworkNamespace
	})
	maps.DeleteFunc(s.Linux.Sysctl, func(key, _ string) bool { return strings.HasPrefix(key, "net.") })
}
