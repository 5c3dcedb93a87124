// Package cgroup puts a container into control groups and limits it, in the
// words of runtime-spec config.json, on cgroup v1 and v2.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/cgroups"
	_ "github.com/opencontainers/cgroups/devices" // how device rules reach v1 files and v2 programs
	"github.com/opencontainers/cgroups/manager"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Group is the control groups of one container: one directory in v2, one for
// each controller in v1. A nil Group is a container that stays in the cgroups
// of its parent.
type Group struct {
	manager cgroups.Manager
	config  *cgroups.Cgroup
	// beside: the directory that limits processes is left out.
	beside bool
	// pids is the limit on processes; nil is none. It is kept apart from config,
	// whose resources the manager replaces by those that it has set.
	pids *int64
}

// Config says what group to make.
type Config struct {
	// Path is below the cgroup mounts of the host: "/peel/ID".
	Path      string
	Resources *specs.LinuxResources
	// OwnUserNS: without privilege over the host the device rules cannot be
	// set, and are not needed, as no device can be made.
	OwnUserNS bool
}

// New prepares a group. Nothing is made before Create.
func New(c Config) (*Group, error) {
	if !filepath.IsAbs(c.Path) || filepath.Clean(c.Path) != c.Path || c.Path == "/" {
		return nil, fmt.Errorf("cgroup path %q: not a clean absolute path", c.Path)
	}
	r, err := resources(c.Resources)
	if err != nil {
		return nil, err
	}
	r.SkipDevices = c.OwnUserNS
	config := &cgroups.Cgroup{Path: c.Path, Resources: r, Rootless: c.OwnUserNS}
	m, err := manager.New(config)
	if err != nil {
		return nil, fmt.Errorf("cgroup %s: %w", c.Path, err)
	}
	return &Group{manager: m, config: config, pids: r.PidsLimit}, nil
}

// Open finds the group that a container was put in, by its Paths.
func Open(paths map[string]string) (*Group, error) {
	if len(paths) == 0 {
		return nil, nil
	}
	config := &cgroups.Cgroup{Resources: &cgroups.Resources{}}
	m, err := manager.NewWithPaths(config, paths)
	if err != nil {
		return nil, err
	}
	return &Group{manager: m, config: config}, nil
}

// Create makes the directories. A group of that name that is there already is
// taken over.
func (g *Group) Create() error {
	if g == nil {
		return nil
	}
	if err := g.manager.Apply(-1); err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	return g.checkControllers()
}

// A process is best born in its group. To move one that lives takes the lock
// that every fork and exit on the machine takes, and waits for all processors to
// pass it: 7 ms and more, where all the rest of a start takes 10. A thread that
// moves itself needs no lock, and its children are where it is.

// EnterThread moves the calling thread, which is locked to its goroutine and
// must not be used for anything after the child has been started, into the
// hierarchies of version 1.
func (g *Group) EnterThread() error {
	for controller, dir := range g.Paths() {
		if controller == "" {
			continue // BirthDir
		}
		if err := cgroups.WriteFile(dir, "tasks", "0"); err != nil {
			return fmt.Errorf("cgroup: %w", err)
		}
	}
	return nil
}

// BirthDir opens the directory of version 2, which a child is born into by
// clone3(CLONE_INTO_CGROUP); nil where there is none.
func (g *Group) BirthDir() (*os.File, error) {
	dir, ok := g.Paths()[""]
	if !ok {
		return nil, nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	return f, nil
}

// Limit sets the limits, but for that of processes: see LimitPids.
func (g *Group) Limit() error {
	if g == nil {
		return nil
	}
	r := *g.config.Resources
	r.PidsLimit = nil
	if err := g.manager.Set(&r); err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	return nil
}

// LimitPids limits the number of processes. It comes last: until its execve the
// guest is a Go program, and has more threads than a container may be allowed.
func (g *Group) LimitPids() error {
	if g == nil || g.pids == nil {
		return nil
	}
	limit := "max"
	if n := *g.pids; n > 0 {
		limit = strconv.FormatInt(n, 10)
	}
	return g.setPids(limit)
}

// FreePids takes the limit on processes back, for a guest that could not become
// the program and has to say so.
func (g *Group) FreePids() error {
	if g == nil || g.pids == nil {
		return nil
	}
	return g.setPids("max")
}

func (g *Group) setPids(limit string) error {
	dir, ok := g.manager.GetPaths()[g.pidsController()]
	if !ok {
		return errors.New("cgroup: no controller to limit the number of processes")
	}
	if err := cgroups.WriteFile(dir, "pids.max", limit); err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	return nil
}

// pidsController is the hierarchy that limits processes.
func (g *Group) pidsController() string {
	if _, ok := g.manager.GetPaths()["pids"]; ok {
		return "pids"
	}
	return ""
}

// PidsLimited says whether the number of processes is limited now.
func (g *Group) PidsLimited() bool {
	if g == nil {
		return false
	}
	limit, err := cgroups.ReadFile(g.manager.GetPaths()[g.pidsController()], "pids.max")
	return err == nil && strings.TrimSpace(limit) != "max"
}

// BesidePids is the group without the directory that limits processes, for a
// process that has more threads than there may be room for. In version 2 that is all
// of it.
func (g *Group) BesidePids() *Group {
	return &Group{manager: g.manager, config: g.config, beside: true}
}

// EnterPids moves a process into the directory that limits them. The limit keeps
// none from being moved, and counts it from then on.
func (g *Group) EnterPids(pid int) error {
	if err := cgroups.WriteFile(g.manager.GetPaths()[g.pidsController()], "cgroup.procs", strconv.Itoa(pid)); err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	return nil
}

// Paths are the directories by controller, "" for v2.
func (g *Group) Paths() map[string]string {
	if g == nil {
		return nil
	}
	paths := maps.Clone(g.manager.GetPaths())
	if g.config.SkipDevices {
		delete(paths, "devices") // the manager names it, and does not make it
	}
	if g.beside {
		delete(paths, g.pidsController())
	}
	return paths
}

// Pids are the processes of the group and of groups that the container made
// below it.
func (g *Group) Pids() ([]int, error) {
	if g == nil {
		return nil, nil
	}
	pids, err := g.manager.GetAllPids()
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	return pids, err
}

// OOMKills counts how often the kernel killed in the group for want of memory.
func (g *Group) OOMKills() uint64 {
	if g == nil {
		return 0
	}
	n, err := g.manager.OOMKillCount()
	if err != nil {
		return 0 // a hierarchy without the memory controller
	}
	return n
}

// Remove removes the group, in which no process may be left.
func (g *Group) Remove() error {
	if g == nil {
		return nil
	}
	if err := g.manager.Destroy(); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cgroup: %w", err)
	}
	return nil
}
