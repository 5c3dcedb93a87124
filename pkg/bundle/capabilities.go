package bundle

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// DefaultCapabilities are the fourteen that docker leaves to root of a container.
func DefaultCapabilities() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
		"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
	}
}

// Capabilities gives a list to a process that is to run as uid. Nothing is
// inheritable or ambient: with that, a file capability of the image would count for
// any user (CVE-2022-24769). A user who is not root starts with none, as after any
// execve, but can get them by set-user-id programs.
func Capabilities(list []string, uid uint32) *specs.LinuxCapabilities {
	if uid != 0 {
		return &specs.LinuxCapabilities{Bounding: list}
	}
	return &specs.LinuxCapabilities{Bounding: list, Effective: list, Permitted: list}
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
	list := slices.DeleteFunc(slices.Clone(have), func(c string) bool { return slices.Contains(drop, c) })
	for _, c := range add {
		if !slices.Contains(list, c) {
			list = append(list, c)
		}
	}
	p.Capabilities = Capabilities(list, p.User.UID)
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

func knownCapability(name string) bool {
	return slices.ContainsFunc(capability.ListKnown(), func(c capability.Cap) bool { return nameOf(c) == name })
}

func nameOf(c capability.Cap) string { return "CAP_" + strings.ToUpper(c.String()) }

// availableCapabilities are those that this process could hand on.
func availableCapabilities() ([]string, error) {
	caps, err := capability.NewPid2(0)
	if err != nil {
		return nil, err
	}
	if err := caps.Load(); err != nil {
		return nil, err
	}
	supported, err := capability.ListSupported()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, c := range supported {
		if caps.Get(capability.BOUNDING, c) {
			names = append(names, nameOf(c))
		}
	}
	return names, nil
}
