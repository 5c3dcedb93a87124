package guest

import (
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"peel/pkg/run/internal/hook"
	"peel/pkg/run/internal/proto"
)

// createHooks has the runtime run its hooks, and then runs those that belong into the
// container's namespaces but are found on the host: its tree is still "/".
func (g *guest) createHooks() error {
	h := g.Spec.Hooks
	if h == nil {
		return nil
	}
	//lint:ignore SA1019 deprecated, and still to be called
	if len(h.Prestart)+len(h.CreateRuntime) > 0 {
		if err := proto.Ask(proto.ReportFD, "created"); err != nil {
			return proto.Fail("report", "", err)
		}
	}
	unix.Umask(0o022)
	defer unix.Umask(0)
	return proto.Fail("createContainer", "", hook.Run(h.CreateContainer, g.hookState(specs.StateCreating)))
}

// startHooks are to run before the program; nil where there are none.
func (g *guest) startHooks() func() error {
	if g.Spec.Hooks == nil || len(g.Spec.Hooks.StartContainer) == 0 {
		return nil
	}
	return func() error {
		return proto.Fail("startContainer", "", hook.Run(g.Spec.Hooks.StartContainer, g.hookState(specs.StateCreated)))
	}
}

func (g *guest) hookState(status specs.ContainerState) specs.State {
	return specs.State{Version: specs.Version, ID: g.ID, Status: status, Pid: os.Getpid(), Bundle: g.Bundle, Annotations: g.Spec.Annotations}
}
