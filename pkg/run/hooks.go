package run

import (
	"fmt"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"peel/pkg/run/internal/hook"
)

// Hooks run at these moments of a start (runtime-spec runtime.md, "Lifecycle"):
//
//	prestart, createRuntime   here, when the container's mounts are made
//	createContainer           by the guest, in its namespaces, on the host's tree
//	startContainer            by the guest, as the program and in its place, with
//	                          its filter, just before it
//	poststart                 here, when the program runs
//	poststop                  here, when nothing of the container is left
//
// One that fails ends the start, but for those of poststop, which is a warning.

// hookState is what hooks are told.
func (c *Container) hookState(spec *specs.Spec, status specs.ContainerState, pid int) specs.State {
	s := specs.State{Version: specs.Version, ID: c.ID, Status: status, Pid: pid, Bundle: c.Bundle, Annotations: spec.Annotations}
	if s.Bundle == "" {
		s.Bundle = c.rt.dataDir(c.ID) // where the config is
	}
	return s
}

// hooksOf are a config's hooks, empty where it has none.
func hooksOf(spec *specs.Spec) specs.Hooks {
	if spec.Hooks == nil {
		return specs.Hooks{}
	}
	return *spec.Hooks
}

// created runs what is to run when the container is there and its program is not.
func (c *Container) created(spec *specs.Spec, pid int) error {
	h := hooksOf(spec)
	s := c.hookState(spec, specs.StateCreating, pid)
	//lint:ignore SA1019 deprecated, and still to be called
	if err := hook.Run(h.Prestart, s); err != nil {
		return err
	}
	return hook.Run(h.CreateRuntime, s)
}

// stopped runs what is to run when the container is gone.
func (c *Container) stopped(spec *specs.Spec) []error {
	return hook.RunAll(hooksOf(spec).Poststop, c.hookState(spec, specs.StateStopped, 0))
}

func validateHooks(h *specs.Hooks) error {
	if h == nil {
		return nil
	}
	for field, list := range map[string][]specs.Hook{
		//lint:ignore SA1019 deprecated, and still to be called
		"prestart":      h.Prestart,
		"createRuntime": h.CreateRuntime, "createContainer": h.CreateContainer,
		"startContainer": h.StartContainer, "poststart": h.Poststart, "poststop": h.Poststop,
	} {
		for i, h := range list {
			field := fmt.Sprintf("hooks.%s[%d]", field, i)
			switch {
			case !filepath.IsAbs(h.Path):
				return &UnsupportedError{field + ".path", fmt.Sprintf("%q is not absolute", h.Path)}
			case h.Timeout != nil && *h.Timeout <= 0:
				return &UnsupportedError{field + ".timeout", fmt.Sprintf("%d seconds", *h.Timeout)}
			}
			if err := noNUL(field, append(append([]string{h.Path}, h.Args...), h.Env...)); err != nil {
				return err
			}
		}
	}
	return nil
}
