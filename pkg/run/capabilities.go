package run

import (
	"slices"
	"strings"

	"github.com/moby/sys/capability"
)

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
