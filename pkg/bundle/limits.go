package bundle

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Limits on resources; zero is none.
type Limits struct {
	Memory     int64   // bytes
	MemorySwap int64   // memory and swap together, bytes; -1 is no limit
	CPUs       float64 // processors' worth of time
	CPUShares  uint64
	CPUSet     string // "0-3,8"
	Pids       int64  // -1 is no limit
}

// cpuPeriod is the scheduler's default, in microseconds.
const cpuPeriod = 100_000

func (l Limits) apply(spec *specs.Spec) error {
	if l == (Limits{}) {
		return nil
	}
	if spec.Linux.Resources == nil {
		spec.Linux.Resources = &specs.LinuxResources{}
	}
	r := spec.Linux.Resources
	if l.Memory != 0 || l.MemorySwap != 0 {
		if l.Memory < 6<<20 && l.Memory != 0 {
			return fmt.Errorf("memory limit of %d bytes: the least is 6 MiB", l.Memory)
		}
		swap := l.MemorySwap
		if swap == 0 {
			swap = 2 * l.Memory // docker's rule
		}
		if swap > 0 && swap < l.Memory {
			return fmt.Errorf("memory and swap together (%d bytes) are less than memory (%d)", swap, l.Memory)
		}
		r.Memory = &specs.LinuxMemory{Limit: &l.Memory, Swap: &swap}
	}
	if l.CPUs < 0 {
		return fmt.Errorf("%g processors", l.CPUs)
	}
	if l.CPUs > 0 || l.CPUShares > 0 || l.CPUSet != "" {
		r.CPU = &specs.LinuxCPU{Cpus: l.CPUSet}
		if l.CPUs > 0 {
			quota, period := int64(l.CPUs*cpuPeriod+0.5), uint64(cpuPeriod)
			if quota < 1000 {
				return fmt.Errorf("%g processors: the least is 0.01", l.CPUs)
			}
			r.CPU.Quota, r.CPU.Period = &quota, &period
		}
		if l.CPUShares > 0 {
			r.CPU.Shares = &l.CPUShares
		}
	}
	if l.Pids != 0 {
		r.Pids = &specs.LinuxPids{Limit: &l.Pids}
	}
	return nil
}
