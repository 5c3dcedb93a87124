package run

import (
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Volumes are the files and directories of the host that the container has: the
// bind mounts of its config, but for those of its own files.
func (c *Container) Volumes(spec *specs.Spec) []specs.Mount {
	own := filepath.Join(c.rt.dataDir(c.ID), "files") + "/"
	return slices.DeleteFunc(slices.Clone(spec.Mounts), func(m specs.Mount) bool {
		bind := m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
		return !bind || strings.HasPrefix(m.Source, own)
	})
}
