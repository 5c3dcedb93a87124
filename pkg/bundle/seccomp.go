package bundle

import (
	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Seccomp is what somebody wishes of the filter of system calls. The zero value
// wishes nothing.
type Seccomp struct {
	Unconfined bool
	// Profile is JSON in docker's form, which also holds conditions on
	// capabilities, architectures and kernels.
	Profile string
}

func (c Seccomp) apply(spec *specs.Spec) (err error) {
	switch {
	case c.Unconfined:
		spec.Linux.Seccomp = nil
	case c.Profile != "":
		spec.Linux.Seccomp, err = seccomp.LoadProfile(c.Profile, spec)
	}
	return err
}

// DefaultSeccomp is docker's default profile for the capabilities that the spec
// gives: a call that needs one it lacks is refused before it reaches the kernel.
func DefaultSeccomp(spec *specs.Spec) (*specs.LinuxSeccomp, error) {
	return seccomp.GetDefaultProfile(spec)
}
