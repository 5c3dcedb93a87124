package run

import (
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Binds are the files and directories of the host that the container of that config
// has, volumes among them, but not files of the container's own.
func (c *Container) Binds(spec *specs.Spec) []specs.Mount {
	return slices.DeleteFunc(slices.Clone(spec.Mounts), func(m specs.Mount) bool { return !c.isBind(m) })
}

func (c *Container) isBind(m specs.Mount) bool {
	own := filepath.Join(c.rt.dataDir(c.ID), ownFiles) + "/"
	bind := m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
	return bind && !strings.HasPrefix(m.Source, own)
}
