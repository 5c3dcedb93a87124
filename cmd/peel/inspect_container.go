package main

import (
	"slices"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"peel/pkg/bundle"
	"peel/pkg/registry"
	"peel/pkg/run"
	"peel/pkg/store"
)

// containerFacts is what inspect prints of a container, in the structure of
// docker's as far as a container of peel's has the fact.
type containerFacts struct {
	ID              string `json:"Id"`
	Created         time.Time
	Path            string   // the program
	Args            []string // its arguments
	State           containerState
	RestartCount    int    // by its policy, since somebody started it
	Image           string // the image's id, where it is known
	Name            string // with docker's "/" before it
	Platform        string
	AppArmorProfile string
	HostConfig      containerLimits
	Mounts          []containerMount
	Config          containerConfig
	// Root is what the container's files are made of.
	Root run.Rootfs
	// Spec is the whole OCI runtime config.
	Spec *specs.Spec
}

type containerState struct {
	Status     run.Phase
	Running    bool
	Restarting bool
	OOMKilled  bool
	Unattended bool // it runs, but nobody keeps its output and exit code
	Pid        int
	ExitCode   int
	Error      string
	StartedAt  time.Time
	FinishedAt time.Time
}

// containerLimits is what docker has under HostConfig.
type containerLimits struct {
	Binds          []string
	NetworkMode    string
	AutoRemove     bool
	RestartPolicy  restartPolicy
	Init           bool
	CapAdd         []string `json:",omitempty"`
	ReadonlyRootfs bool
	Memory         int64 // bytes; 0 is no limit
	MemorySwap     int64
	NanoCpus       int64
	CPUShares      uint64 `json:"CpuShares"`
	CpusetCpus     string
	PidsLimit      int64
	CgroupPath     string
	Ulimits        []specs.POSIXRlimit
}

type restartPolicy struct {
	Name              string
	MaximumRetryCount int
}

type containerMount struct {
	Type        string // bind or volume
	Name        string `json:",omitempty"` // of a volume
	Source      string
	Destination string
	Mode        string
	RW          bool
}

type containerConfig struct {
	Hostname   string
	User       string
	Tty        bool
	OpenStdin  bool
	Env        []string
	Cmd        []string
	Image      string // the reference, or the bundle's directory
	WorkingDir string
	Labels     map[string]string
	StopSignal string
	// StopTimeout is in seconds.
	StopTimeout *int `json:",omitempty"`
}

func inspectContainer(c *run.Container, st *store.Store) (*containerFacts, error) {
	s, err := c.Status()
	if err != nil {
		return nil, err
	}
	spec, err := c.Spec()
	if err != nil {
		return nil, err
	}
	f := &containerFacts{
		ID: c.ID, Created: c.Created, Args: []string{}, Name: "/" + c.Name, Platform: "linux", Image: imageOf(c, st),
		State: containerState{
			Status: s.Phase, Running: s.Phase == run.Running, Restarting: s.Phase == run.Restarting, OOMKilled: s.OOMKilled, Unattended: s.Unattended,
			Pid: s.Pid, ExitCode: s.Code, Error: s.Error, StartedAt: s.Started, FinishedAt: s.Finished,
		},
		RestartCount: s.RestartCount,
		HostConfig:   limitsOf(c, spec), Mounts: []containerMount{}, Root: c.Root, Spec: spec,
		Config: containerConfig{
			Hostname: spec.Hostname, User: c.User, Image: c.Image, Cmd: c.Args, Labels: c.Labels, StopSignal: c.StopSignal,
			OpenStdin: c.OpenStdin, StopTimeout: c.StopTimeout,
		},
	}
	if len(c.Args) > 0 {
		f.Path, f.Args = c.Args[0], c.Args[1:]
	}
	if p := spec.Process; p != nil {
		f.AppArmorProfile = p.ApparmorProfile
		f.Config.Tty, f.Config.Env, f.Config.WorkingDir = p.Terminal, p.Env, p.Cwd
	}
	for _, m := range c.Binds(spec) {
		mount := containerMount{
			Type: "bind", Source: m.Source, Destination: m.Destination, Mode: strings.Join(m.Options, ","), RW: !slices.Contains(m.Options, "ro"),
		}
		if i := slices.IndexFunc(c.VolumeUses, func(u run.VolumeUse) bool { return u.Destination == m.Destination }); i >= 0 {
			mount.Type, mount.Name = "volume", c.VolumeUses[i].Name
		}
		f.Mounts = append(f.Mounts, mount)
	}
	return f, nil
}

// imageOf is the id of the image that a container is made of; of one whose files
// were copied for it, the one that its reference names now.
func imageOf(c *run.Container, st *store.Store) string {
	imgs, _ := st.Images()
	ref, err := registry.ParseReference(c.Image)
	for _, img := range imgs {
		made := c.Root.Image != nil && img.Descriptor.Digest == c.Root.Image.Manifest
		if made || c.Root.Image == nil && err == nil && img.Name == ref.String() {
			return img.Manifest.Config.Digest.String()
		}
	}
	return ""
}

func limitsOf(c *run.Container, spec *specs.Spec) containerLimits {
	policy, _, _ := strings.Cut(c.Restart.String(), ":")
	l := containerLimits{RestartPolicy: restartPolicy{policy, c.Restart.MaximumRetryCount}, Init: c.Init, Binds: []string{}, NetworkMode: networkMode(spec), AutoRemove: c.AutoRemove, Ulimits: []specs.POSIXRlimit{}}
	for _, m := range c.Binds(spec) {
		l.Binds = append(l.Binds, m.Source+":"+m.Destination)
	}
	if spec.Root != nil {
		l.ReadonlyRootfs = spec.Root.Readonly
	}
	if p := spec.Process; p != nil {
		l.Ulimits = append(l.Ulimits, p.Rlimits...)
		if p.Capabilities != nil {
			l.CapAdd = missingFrom(bundle.DefaultCapabilities(), p.Capabilities.Bounding)
		}
	}
	if spec.Linux == nil {
		return l
	}
	l.CgroupPath = spec.Linux.CgroupsPath
	r := spec.Linux.Resources
	if r == nil {
		return l
	}
	if m := r.Memory; m != nil {
		l.Memory, l.MemorySwap = given(m.Limit), given(m.Swap)
	}
	if p := r.CPU; p != nil {
		l.CPUShares, l.CpusetCpus = given(p.Shares), p.Cpus
		if quota, period := given(p.Quota), given(p.Period); quota > 0 && period > 0 {
			l.NanoCpus = quota * 1e9 / int64(period)
		}
	}
	if r.Pids != nil {
		l.PidsLimit = given(r.Pids.Limit)
	}
	return l
}

// given is what p points to, or zero.
func given[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// missingFrom are those of list that known has not.
func missingFrom(known, list []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(known, s) })
}

// networkMode is docker's word for the network that a container has.
func networkMode(spec *specs.Spec) string {
	if spec.Linux != nil {
		for _, ns := range spec.Linux.Namespaces {
			if ns.Type == specs.NetworkNamespace {
				if ns.Path != "" {
					return "ns:" + ns.Path
				}
				return "none"
			}
		}
	}
	return "host"
}
