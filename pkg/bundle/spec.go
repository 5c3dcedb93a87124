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
	"cmp"
	"os"
	"path"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	"peel/internal/beneath"
	"peel/internal/users"
)

// Options overrides what the image says. The zero value takes all from the image
// and makes the bundle of a root user.
type Options struct {
	// Wishes come last. Their Args replace the image's Cmd, their HostNetwork leaves
	// the process in the network namespace of whoever runs the bundle.
	Wishes
	Entrypoint []string // replaces the image's Entrypoint and, as in docker, drops its Cmd
	User       string   // replaces the image's User

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
	s := Default()
	s.Hostname = defaultHostname
	s.Annotations = annotations(img, o.Warn)
	p := s.Process
	p.User = specs.User{UID: u.UID, GID: u.GID, AdditionalGids: u.Groups}
	p.Capabilities = Capabilities(DefaultCapabilities(), u.UID)
	p.Args, p.Cwd = args(img.Config, o), cwd(img.Config)
	hostname := cmp.Or(o.Hostname, s.Hostname)
	p.Env = env(img.Config, u.Home, hostname, o)
	if o.Unprivileged {
		s.Linux.Resources, p.OOMScoreAdj, p.User.AdditionalGids = nil, nil, nil
	}
	w := o.Wishes
	w.Args, w.Env = nil, nil // in the right place already
	if err := w.Apply(s); err != nil {
		return nil, err
	}
	if len(o.UIDMappings)+len(o.GIDMappings) > 0 {
		EnterUserNamespace(s, o.UIDMappings, o.GIDMappings)
	}
	if w.Seccomp == (Seccomp{}) { // for the capabilities that are left
		s.Linux.Seccomp, err = DefaultSeccomp(s)
	}
	return s, err
}

func args(c ocispec.ImageConfig, o Options) []string {
	entrypoint, cmd := c.Entrypoint, c.Cmd
	if len(o.Entrypoint) > 0 {
		entrypoint, cmd = o.Entrypoint, nil
	}
	if len(o.Args) > 0 {
		cmd = o.Args
	}
	return slices.Concat(entrypoint, cmd)
}

// cwd is absolute, or runtimes refuse it.
func cwd(c ocispec.ImageConfig) string {
	if path.IsAbs(c.WorkingDir) {
		return c.WorkingDir
	}
	return path.Join("/", c.WorkingDir)
}

// EnterUserNamespace adds a user namespace with these ids and takes away what cannot
// be done in it. Whether the network is shared is settled before.
func EnterUserNamespace(s *specs.Spec, uids, gids []specs.LinuxIDMapping) {
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings, s.Linux.GIDMappings = uids, gids
	delete(s.Linux.Sysctl, pingSysctl) // the kernel wants its groups to be mapped
	ownNetwork := slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace })
	for i := range s.Mounts {
		m := &s.Mounts[i]
		switch {
		case m.Type == "devpts" && !mapped(gids, ttyGroup):
			m.Options = slices.DeleteFunc(m.Options, func(s string) bool { return strings.HasPrefix(s, "gid=") })
		case m.Type == "sysfs" && !ownNetwork:
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
