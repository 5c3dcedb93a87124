package run

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"peel/pkg/run/internal/monitor"
)

// UnsupportedError is a wish of config.json that cannot be kept. To run without
// it would give another container than the one asked for.
type UnsupportedError struct{ Field, Reason string }

func (e *UnsupportedError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("config.json: %s is not supported", e.Field)
	}
	return fmt.Sprintf("config.json: %s: %s", e.Field, e.Reason)
}

// validate checks a config before anything is made of it.
func validate(s *specs.Spec) error {
	switch {
	case s.Process == nil || len(s.Process.Args) == 0:
		return &UnsupportedError{"process.args", "no command"}
	case s.Root == nil:
		return &UnsupportedError{"root", "missing"}
	case s.Linux == nil:
		return &UnsupportedError{"linux", "missing"}
	}
	if err := validateStrings(s); err != nil {
		return err
	}
	for field, set := range map[string]bool{
		"process.scheduler":       s.Process.Scheduler != nil,
		"process.ioPriority":      s.Process.IOPriority != nil,
		"process.execCPUAffinity": s.Process.ExecCPUAffinity != nil,
		"linux.intelRdt":          s.Linux.IntelRdt != nil,
		"linux.personality":       s.Linux.Personality != nil,
		"linux.memoryPolicy":      s.Linux.MemoryPolicy != nil,
		"linux.netDevices":        len(s.Linux.NetDevices) > 0,
	} {
		if set {
			return &UnsupportedError{Field: field}
		}
	}
	for i, m := range s.Mounts {
		if !filepath.IsAbs(m.Destination) {
			return &UnsupportedError{fmt.Sprintf("mounts[%d].destination", i), fmt.Sprintf("%q is not absolute", m.Destination)}
		}
		if err := validateMapping(s, m); err != "" {
			return &UnsupportedError{fmt.Sprintf("mounts[%d].uidMappings", i), err}
		}
	}
	for i, d := range s.Linux.Devices {
		if !filepath.IsAbs(d.Path) {
			return &UnsupportedError{fmt.Sprintf("linux.devices[%d].path", i), fmt.Sprintf("%q is not absolute", d.Path)}
		}
	}
	if err := validateHooks(s.Hooks); err != nil {
		return err
	}
	if err := validateNamespaces(s); err != nil {
		return err
	}
	return validateSysctls(s)
}

// validateStrings refuses what would be cut at a NUL byte on its way to the kernel.
func validateStrings(s *specs.Spec) error {
	if err := checkProcess(s.Process); err != nil {
		return err
	}
	for field, list := range map[string][]string{
		"hostname": {s.Hostname, s.Domainname}, "linux.maskedPaths": s.Linux.MaskedPaths, "linux.readonlyPaths": s.Linux.ReadonlyPaths,
	} {
		if err := noNUL(field, list); err != nil {
			return err
		}
	}
	for i, m := range s.Mounts {
		if err := noNUL(fmt.Sprintf("mounts[%d]", i), append([]string{m.Destination, m.Source, m.Type}, m.Options...)); err != nil {
			return err
		}
	}
	return nil
}

// checkProcess checks what a container and an exec have in common.
func checkProcess(p *specs.Process) error {
	if !filepath.IsAbs(p.Cwd) {
		return &UnsupportedError{"process.cwd", fmt.Sprintf("%q is not absolute", p.Cwd)}
	}
	for field, list := range map[string][]string{"process.args": p.Args, "process.env": p.Env, "process.cwd": {p.Cwd}} {
		if err := noNUL(field, list); err != nil {
			return err
		}
	}
	return nil
}

func noNUL(field string, list []string) error {
	for _, v := range list {
		if strings.ContainsRune(v, 0) {
			return &UnsupportedError{field, "a NUL byte"}
		}
	}
	return nil
}

func namespace(s *specs.Spec, kind specs.LinuxNamespaceType) (specs.LinuxNamespace, bool) {
	i := slices.IndexFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == kind })
	if i < 0 {
		return specs.LinuxNamespace{}, false
	}
	return s.Linux.Namespaces[i], true
}

func validateNamespaces(s *specs.Spec) error {
	const field = "linux.namespaces"
	seen := map[specs.LinuxNamespaceType]bool{}
	for _, ns := range s.Linux.Namespaces {
		switch ns.Type {
		case specs.PIDNamespace, specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.CgroupNamespace:
		case specs.MountNamespace, specs.UserNamespace, specs.TimeNamespace:
			if ns.Path != "" {
				return &UnsupportedError{field, fmt.Sprintf("joining a %s namespace is not supported", ns.Type)}
			}
		default:
			return &UnsupportedError{field, fmt.Sprintf("unknown type %q", ns.Type)}
		}
		if seen[ns.Type] {
			return &UnsupportedError{field, fmt.Sprintf("%s twice", ns.Type)}
		}
		if ns.Path != "" && !filepath.IsAbs(ns.Path) {
			return &UnsupportedError{field, fmt.Sprintf("path %q is not absolute", ns.Path)}
		}
		seen[ns.Type] = true
	}
	mapped := len(s.Linux.UIDMappings) > 0 && len(s.Linux.GIDMappings) > 0
	switch {
	case !seen[specs.MountNamespace]:
		// pivot_root would be the host's.
		return &UnsupportedError{field, "no mount namespace"}
	case (s.Hostname != "" || s.Domainname != "") && !seen[specs.UTSNamespace]:
		return &UnsupportedError{"hostname", "no uts namespace: it would be the host's"}
	case seen[specs.UserNamespace] && !mapped:
		return &UnsupportedError{field, "a user namespace without uidMappings and gidMappings"}
	case !seen[specs.UserNamespace] && len(s.Linux.UIDMappings)+len(s.Linux.GIDMappings) > 0:
		return &UnsupportedError{"linux.uidMappings", "no user namespace to use them"}
	case len(s.Linux.TimeOffsets) > 0 && !seen[specs.TimeNamespace]:
		return &UnsupportedError{"linux.timeOffsets", "no time namespace: they would be the host's"}
	}
	return nil
}

// validateSysctls lets through the kernel parameters that belong to a namespace
// the container has. Any other is the host's.
func validateSysctls(s *specs.Spec) error {
	owner := func(key string) specs.LinuxNamespaceType {
		switch {
		case strings.HasPrefix(key, "net."):
			return specs.NetworkNamespace
		case strings.HasPrefix(key, "fs.mqueue."):
			return specs.IPCNamespace
		case slices.Contains([]string{
			"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni",
			"kernel.shm_rmid_forced",
		}, key):
			return specs.IPCNamespace
		case key == "kernel.domainname":
			return specs.UTSNamespace
		}
		return ""
	}
	for key := range s.Linux.Sysctl {
		dotted := strings.ReplaceAll(key, "/", ".")
		if key != dotted || strings.Contains(key, "..") || strings.ContainsRune(key, 0) {
			return &UnsupportedError{"linux.sysctl", fmt.Sprintf("%q: not a dotted name", key)}
		}
		kind := owner(key)
		ns, ok := namespace(s, kind)
		switch {
		case kind == "":
			return &UnsupportedError{"linux.sysctl", key + " belongs to the host"}
		case !ok || ns.Path != "":
			return &UnsupportedError{"linux.sysctl", fmt.Sprintf("%s would be set outside the container: it has no %s namespace of its own", key, kind)}
		}
	}
	return nil
}

// validateMapping says what is wrong with the owners that are mapped in a mount.
func validateMapping(s *specs.Spec, m specs.Mount) string {
	if !monitor.Mapped(m) {
		return ""
	}
	bind := m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
	switch own := len(m.UIDMappings) + len(m.GIDMappings); {
	case os.Geteuid() != 0:
		return "owners of files are mapped by root alone"
	case !bind:
		return "owners are mapped in bind mounts alone"
	case own > 0 && (len(m.UIDMappings) == 0 || len(m.GIDMappings) == 0):
		return "uidMappings and gidMappings go together"
	case own == 0 && len(s.Linux.UIDMappings) == 0:
		return "no mappings, and no user namespace to have them from"
	}
	return ""
}
