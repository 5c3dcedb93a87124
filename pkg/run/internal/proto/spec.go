package proto

import specs "github.com/opencontainers/runtime-spec/specs-go"

// Spec is what the guest needs of a config. To decode a type costs by the size of
// the type, used or not, and that of all of config.json is the largest of all that
// the guest does before its first mount.
type Spec struct {
	Process     *specs.Process    `json:"process"`
	Root        *specs.Root       `json:"root"`
	Hostname    string            `json:"hostname,omitempty"`
	Domainname  string            `json:"domainname,omitempty"`
	Mounts      []specs.Mount     `json:"mounts,omitempty"`
	Hooks       *specs.Hooks      `json:"hooks,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"` // for hooks
	Linux       Linux             `json:"linux"`
}

// Linux is the same of its linux part.
type Linux struct {
	Namespaces        []specs.LinuxNamespace           `json:"namespaces,omitempty"`
	UIDMappings       []specs.LinuxIDMapping           `json:"uidMappings,omitempty"`
	GIDMappings       []specs.LinuxIDMapping           `json:"gidMappings,omitempty"`
	TimeOffsets       map[string]specs.LinuxTimeOffset `json:"timeOffsets,omitempty"`
	Devices           []specs.LinuxDevice              `json:"devices,omitempty"`
	Sysctl            map[string]string                `json:"sysctl,omitempty"`
	RootfsPropagation string                           `json:"rootfsPropagation,omitempty"`
	MaskedPaths       []string                         `json:"maskedPaths,omitempty"`
	ReadonlyPaths     []string                         `json:"readonlyPaths,omitempty"`
	MountLabel        string                           `json:"mountLabel,omitempty"`
	Pids              *specs.LinuxPids                 `json:"pids,omitempty"`
}

// NewSpec takes from a config what the guest needs.
func NewSpec(s *specs.Spec) *Spec {
	l := s.Linux
	out := &Spec{
		Process: s.Process, Root: s.Root, Hostname: s.Hostname, Domainname: s.Domainname, Mounts: s.Mounts, Hooks: s.Hooks,
		Annotations: s.Annotations,
		Linux: Linux{
			Namespaces: l.Namespaces, UIDMappings: l.UIDMappings, GIDMappings: l.GIDMappings, TimeOffsets: l.TimeOffsets,
			Devices: l.Devices, Sysctl: l.Sysctl, RootfsPropagation: l.RootfsPropagation,
			MaskedPaths: l.MaskedPaths, ReadonlyPaths: l.ReadonlyPaths, MountLabel: l.MountLabel,
		},
	}
	if l.Resources != nil {
		out.Linux.Pids = l.Resources.Pids
	}
	return out
}
