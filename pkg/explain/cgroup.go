package explain

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path"
	"strconv"
	"strings"
)

// Cgroup is how much of the machine the process may use, together with all others
// of its group.
type Cgroup struct {
	Version int    `json:"version"` // 2, or 1 where the memory controller is of version 1
	Path    string `json:"path"`    // from the root of the hierarchy

	Memory Resource `json:"memory"` // bytes
	Swap   Resource `json:"swap"`   // bytes, without memory
	PIDs   Resource `json:"pids"`   // processes and threads

	// CPUs is how many processors' time the group may take; nil without limit.
	// CPUSeconds is what it has taken so far.
	CPUs       *float64 `json:"cpus,omitempty"`
	CPUSeconds *float64 `json:"cpuSeconds,omitempty"`
	CPUSet     string   `json:"cpuset,omitempty"` // the processors that it may run on, such as 0-3,7
}

// Resource is something that is counted. Limit is the tightest of the group's own
// and those of the groups around it.
type Resource struct {
	Limit   *int64 `json:"limit,omitempty"`
	Current *int64 `json:"current,omitempty"`
}

// group is a cgroup in one hierarchy, and where to read it.
type group struct {
	version int
	path    string // in the hierarchy
	dir     string // of the file system, for fs.FS
	top     string // the hierarchy's own directory
}

func (p *process) cgroup(context.Context) error {
	b, err := p.read("cgroup", small)
	if err != nil {
		return err
	}
	mounted, err := p.hierarchies()
	if err != nil {
		return err
	}
	groups := map[string]group{} // by controller, "" for version 2
	for line := range strings.Lines(string(b)) {
		// ID:CONTROLLERS:PATH, the path with all its colons.
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 {
			return fmt.Errorf("cgroup line %q makes no sense", line)
		}
		for controller := range strings.SplitSeq(f[1], ",") {
			g := group{version: 1, path: f[2]}
			if controller == "" {
				g.version = 2
			}
			if h, ok := mounted[controller]; ok {
				g.top = h.at
				g.dir = h.directory(g.path)
			}
			groups[controller] = g
		}
	}
	pick := func(controller string) group {
		if g, ok := groups[controller]; ok {
			return g
		}
		return groups[""]
	}
	memory := pick("memory")
	c := &p.r.Cgroup
	c.Version, c.Path = memory.version, memory.path
	if c.Version == 0 {
		return errors.New("it is in no group")
	}
	if memory.dir == "" {
		err = errors.New("the cgroup file system that holds it is not mounted here")
	}
	p.memory(memory)
	p.processor(pick("cpu"), pick("cpuacct"))
	p.pids(pick("pids"))
	p.cpuset(pick("cpuset"))
	return err
}

// hierarchy is where a cgroup file system is mounted, and which group is its root
// there.
type hierarchy struct{ root, at string }

// directory is where a group's files are, empty if they are not seen there.
func (h hierarchy) directory(group string) string {
	if path.Clean(group) != group || !under(group, h.root) && h.root != "/" {
		return "" // "/.." leads out of the cgroup namespace of the reader
	}
	if strings.HasPrefix(group, "/..") {
		return ""
	}
	return relative(path.Join(h.at, strings.TrimPrefix(group, h.root)))
}

// hierarchies finds the mounted cgroup file systems: by controller, and by "" that
// of version 2.
func (p *process) hierarchies() (map[string]hierarchy, error) {
	found := map[string]hierarchy{}
	for m, err := range p.mountInfos("proc/self/mountinfo") {
		if err != nil {
			return nil, err
		}
		switch m.fsType {
		case "cgroup2":
			found[""] = hierarchy{m.subtree, m.at}
		case "cgroup":
			for option := range strings.SplitSeq(m.super, ",") {
				found[option] = hierarchy{m.subtree, m.at}
			}
		}
	}
	return found, nil
}

// number reads a file with one number; nil if it says max, or is not there: a
// controller may be off, and the root has few files.
func (p *process) number(g group, dir, file string) *int64 {
	s := p.text(dir, file)
	n, err := strconv.ParseInt(s, 10, 64)
	const unlimited = math.MaxInt64 &^ (1<<16 - 1) // version 1 says it in whole pages
	if err != nil || g.version == 1 && n >= unlimited {
		return nil
	}
	return &n
}

func (p *process) text(dir, file string) string {
	if dir == "" {
		return ""
	}
	b, err := read(p.fs, path.Join(dir, file), small)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// tightest finds the smallest number that read has of the group and those around.
func tightest[T int64 | float64](g group, read func(dir string) *T) *T {
	var least *T
	for dir := g.dir; dir != "" && dir != "."; dir = path.Dir(dir) {
		if n := read(dir); n != nil && (least == nil || *n < *least) {
			least = n
		}
		if dir == relative(g.top) {
			break
		}
	}
	return least
}

func (p *process) limit(g group, file string) *int64 {
	return tightest(g, func(dir string) *int64 { return p.number(g, dir, file) })
}

func (p *process) memory(g group) {
	c := &p.r.Cgroup
	if g.version == 2 {
		c.Memory = Resource{p.limit(g, "memory.max"), p.number(g, g.dir, "memory.current")}
		c.Swap = Resource{p.limit(g, "memory.swap.max"), p.number(g, g.dir, "memory.swap.current")}
		return
	}
	c.Memory = Resource{p.limit(g, "memory.limit_in_bytes"), p.number(g, g.dir, "memory.usage_in_bytes")}
	// Version 1 counts memory and swap together.
	c.Swap = Resource{
		difference(p.limit(g, "memory.memsw.limit_in_bytes"), c.Memory.Limit),
		difference(p.number(g, g.dir, "memory.memsw.usage_in_bytes"), c.Memory.Current),
	}
}

func difference(a, b *int64) *int64 {
	if a == nil || b == nil {
		return nil
	}
	n := max(*a-*b, 0)
	return &n
}

func (p *process) processor(g, usage group) {
	c := &p.r.Cgroup
	c.CPUs = tightest(g, func(dir string) *float64 {
		var quota, period string
		if g.version == 2 {
			quota, period, _ = strings.Cut(p.text(dir, "cpu.max"), " ")
		} else {
			quota, period = p.text(dir, "cpu.cfs_quota_us"), p.text(dir, "cpu.cfs_period_us")
		}
		q, err1 := strconv.ParseFloat(quota, 64) // "max", or -1, is no limit
		d, err2 := strconv.ParseFloat(period, 64)
		if err1 != nil || err2 != nil || q < 0 || d <= 0 {
			return nil
		}
		cpus := q / d
		return &cpus
	})
	var seconds float64
	if usage.version == 1 {
		n := p.number(usage, usage.dir, "cpuacct.usage")
		if n == nil {
			return
		}
		seconds = float64(*n) / 1e9
	} else {
		_, rest, ok := strings.Cut("\n"+p.text(usage.dir, "cpu.stat"), "\nusage_usec ")
		line, _, _ := strings.Cut(rest, "\n")
		n, err := strconv.ParseInt(line, 10, 64)
		if !ok || err != nil {
			return
		}
		seconds = float64(n) / 1e6
	}
	c.CPUSeconds = &seconds
}

func (p *process) pids(g group) {
	p.r.Cgroup.PIDs = Resource{p.limit(g, "pids.max"), p.number(g, g.dir, "pids.current")}
}

func (p *process) cpuset(g group) {
	for _, file := range []string{"cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"} {
		if s := p.text(g.dir, file); s != "" {
			p.r.Cgroup.CPUSet = s
			return
		}
	}
}
