package run

import "peel/pkg/run/internal/seccomp"

// RefusedCalls names the system calls that the container's filter refuses: whatever
// their arguments are, and with some of them.
func (c *Container) RefusedCalls() (always, sometimes []string, err error) {
	spec, err := c.Spec()
	if err != nil || spec.Linux == nil {
		return nil, nil, err
	}
	return seccomp.Refused(spec.Linux.Seccomp)
}
