package cgroup

import (
	"fmt"
	"strconv"

	"github.com/opencontainers/cgroups"
	devices "github.com/opencontainers/cgroups/devices/config"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// resources translates the limits of config.json.
func resources(r *specs.LinuxResources) (*cgroups.Resources, error) {
	out := &cgroups.Resources{}
	rules, err := deviceRules(r)
	if err != nil {
		return nil, err
	}
	out.Devices = rules
	if r == nil {
		return out, nil
	}
	if m := r.Memory; m != nil {
		out.Memory, out.MemoryReservation, out.MemorySwap = value(m.Limit), value(m.Reservation), value(m.Swap)
		out.MemorySwappiness = m.Swappiness
		out.OomKillDisable = value(m.DisableOOMKiller)
		out.MemoryCheckBeforeUpdate = value(m.CheckBeforeUpdate)
	}
	if c := r.CPU; c != nil {
		out.CpuShares, out.CpuQuota, out.CpuPeriod, out.CpuBurst = value(c.Shares), value(c.Quota), value(c.Period), c.Burst
		out.CpuRtRuntime, out.CpuRtPeriod = value(c.RealtimeRuntime), value(c.RealtimePeriod)
		out.CpusetCpus, out.CpusetMems, out.CPUIdle = c.Cpus, c.Mems, c.Idle
		// v1 counts shares from 2 to 262144, v2 weights from 1 to 10000.
		out.CpuWeight = cgroups.ConvertCPUSharesToCgroupV2Value(out.CpuShares)
	}
	if r.Pids != nil {
		out.PidsLimit = r.Pids.Limit
	}
	if b := r.BlockIO; b != nil {
		out.BlkioWeight, out.BlkioLeafWeight = value(b.Weight), value(b.LeafWeight)
		for _, d := range b.WeightDevice {
			out.BlkioWeightDevice = append(out.BlkioWeightDevice, cgroups.NewWeightDevice(d.Major, d.Minor, value(d.Weight), value(d.LeafWeight)))
		}
		out.BlkioThrottleReadBpsDevice = throttles(b.ThrottleReadBpsDevice)
		out.BlkioThrottleWriteBpsDevice = throttles(b.ThrottleWriteBpsDevice)
		out.BlkioThrottleReadIOPSDevice = throttles(b.ThrottleReadIOPSDevice)
		out.BlkioThrottleWriteIOPSDevice = throttles(b.ThrottleWriteIOPSDevice)
	}
	for _, h := range r.HugepageLimits {
		out.HugetlbLimit = append(out.HugetlbLimit, &cgroups.HugepageLimit{Pagesize: h.Pagesize, Limit: h.Limit})
	}
	for name, l := range r.Rdma {
		if out.Rdma == nil {
			out.Rdma = map[string]cgroups.LinuxRdma{}
		}
		out.Rdma[name] = cgroups.LinuxRdma{HcaHandles: l.HcaHandles, HcaObjects: l.HcaObjects}
	}
	if n := r.Network; n != nil {
		out.NetClsClassid = value(n.ClassID)
		for _, p := range n.Priorities {
			out.NetPrioIfpriomap = append(out.NetPrioIfpriomap, &cgroups.IfPrioMap{Interface: p.Name, Priority: int64(p.Priority)})
		}
	}
	out.Unified = r.Unified
	return out, nil
}

func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

func throttles(list []specs.LinuxThrottleDevice) []*cgroups.ThrottleDevice {
	var out []*cgroups.ThrottleDevice
	for _, d := range list {
		out = append(out, cgroups.NewThrottleDevice(d.Major, d.Minor, d.Rate))
	}
	return out
}

// deviceRules begins with nothing allowed, whatever the config forgets to deny:
// with CAP_MKNOD, which the default set has, an allowed disk is the host.
func deviceRules(r *specs.LinuxResources) ([]*devices.Rule, error) {
	any := int64(devices.Wildcard)
	rule := func(kind devices.Type, major, minor int64, access string, allow bool) *devices.Rule {
		return &devices.Rule{Type: kind, Major: major, Minor: minor, Permissions: devices.Permissions(access), Allow: allow}
	}
	rules := []*devices.Rule{rule(devices.WildcardDevice, any, any, "rwm", false)}
	if r != nil {
		for i, d := range r.Devices {
			kind, ok := map[string]devices.Type{"": devices.WildcardDevice, "a": devices.WildcardDevice, "c": devices.CharDevice, "u": devices.CharDevice, "b": devices.BlockDevice}[d.Type]
			access := d.Access
			if access == "" {
				access = "rwm"
			}
			if !ok || !devices.Permissions(access).IsValid() {
				return nil, fmt.Errorf("linux.resources.devices[%s]: type %q, access %q", strconv.Itoa(i), d.Type, d.Access)
			}
			major, minor := any, any
			if d.Major != nil {
				major = *d.Major
			}
			if d.Minor != nil {
				minor = *d.Minor
			}
			rules = append(rules, rule(kind, major, minor, access, d.Allow))
		}
	}
	// The devices of every container (runtime-spec, Default Devices), terminals
	// of its devpts, and making nodes without opening them.
	for _, d := range [][2]int64{{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 2}, {136, any}} {
		rules = append(rules, rule(devices.CharDevice, d[0], d[1], "rwm", true))
	}
	return append(rules,
		rule(devices.CharDevice, any, any, "m", true),
		rule(devices.BlockDevice, any, any, "m", true)), nil
}
