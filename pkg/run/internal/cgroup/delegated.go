package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

const mountpoint = "/sys/fs/cgroup"

// Delegated finds the cgroup that a user can make others in: the nearest one
// above his own that he was given to manage, as systemd does for its user
// services, and that has no process in itself. Version 2 lets none control what is
// below who has both. The path is one for Config.
func Delegated() (string, error) {
	if !cgroups.IsCgroup2UnifiedMode() {
		return "", errors.New("limits on resources need root where cgroups have version 1")
	}
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	own, ok := strings.CutPrefix(strings.TrimSpace(string(b)), "0::")
	if !ok || !filepath.IsAbs(own) {
		return "", fmt.Errorf("limits on resources: this process is in cgroup %q", own)
	}
	crowded := ""
	for path := filepath.Clean(own); manages(path); path = filepath.Dir(path) {
		procs, err := cgroups.ReadFile(mountpoint+path, "cgroup.procs")
		if err != nil {
			return "", err
		}
		if strings.TrimSpace(procs) == "" {
			return path, nil
		}
		crowded = path
		if path == "/" {
			break
		}
	}
	if crowded != "" {
		return "", fmt.Errorf("limits on resources: the cgroup %s is this user's, but has processes of its own; start peel in one below it", crowded)
	}
	return "", errors.New("limits on resources need root, or a cgroup of the user's: 'systemd-run --user --scope' starts programs in one")
}

// manages says whether this user may make cgroups, and move processes, below one.
func manages(path string) bool {
	for _, name := range []string{"", "cgroup.procs", "cgroup.subtree_control"} {
		if unix.Access(filepath.Join(mountpoint, path, name), unix.W_OK) != nil {
			return false
		}
	}
	return true
}

// checkControllers sees to it that a group of version 2 has the controllers of its
// limits: the names of files that are not there would be all to tell it by.
func (g *Group) checkControllers() error {
	dir, ok := g.manager.GetPaths()[""]
	if !ok || !cgroups.IsCgroup2UnifiedMode() {
		return nil
	}
	have, err := cgroups.ReadFile(dir, "cgroup.controllers")
	if err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	for _, c := range g.controllers() {
		if !slices.Contains(strings.Fields(have), c) {
			return fmt.Errorf("cgroup %s: a limit needs the controller %q, which is not given to it", strings.TrimPrefix(dir, mountpoint), c)
		}
	}
	return nil
}

// controllers are those that the limits need.
func (g *Group) controllers() []string {
	r := g.config.Resources
	var list []string
	for _, c := range []struct {
		name string
		used bool
	}{
		{"memory", r.Memory > 0 || r.MemorySwap > 0 || r.MemoryReservation > 0},
		{"cpu", r.CpuWeight != 0 || r.CpuQuota > 0 || r.CPUIdle != nil},
		{"cpuset", r.CpusetCpus != "" || r.CpusetMems != ""},
		{"io", r.BlkioWeight != 0 || len(r.BlkioWeightDevice)+len(r.BlkioThrottleReadBpsDevice)+len(r.BlkioThrottleWriteBpsDevice)+
			len(r.BlkioThrottleReadIOPSDevice)+len(r.BlkioThrottleWriteIOPSDevice) > 0},
		{"pids", g.pids != nil && *g.pids > 0},
		{"hugetlb", len(r.HugetlbLimit) > 0},
		{"rdma", len(r.Rdma) > 0},
	} {
		if c.used {
			list = append(list, c.name)
		}
	}
	return list
}
