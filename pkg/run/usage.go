package run

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"peel/pkg/run/internal/cgroup"
)

// Usage is what a container uses of the machine at one moment, and what it has used
// in its present run. What nobody counts, as where it has no cgroup of its own, is
// nil.
type Usage struct {
	At  time.Time
	CPU *time.Duration // of all processors, since the start
	// Memory is in bytes, without file contents that the kernel would give up at
	// once. MemoryLimit is all that the machine has where there is no other limit.
	Memory, MemoryLimit     *uint64
	Pids                    *uint64 // processes and threads
	BlockRead, BlockWritten *uint64 // bytes
	NetReceived, NetSent    *uint64 // bytes, over all interfaces but loopback
}

// Usage reads the cgroups of a container that runs. ErrNotRunning.
func (c *Container) Usage() (Usage, error) {
	pidfd, st, err := c.pidfd()
	if err != nil {
		return Usage{}, err
	}
	defer unix.Close(pidfd)
	g := cgroup.ReadUsage(st.Cgroups)
	u := Usage{
		At: time.Now(), CPU: g.CPU, Memory: g.Memory, MemoryLimit: g.MemoryLimit, Pids: g.Pids,
		BlockRead: g.BlockRead, BlockWritten: g.BlockWritten,
	}
	if machine := totalMemory(); u.Memory != nil && machine > 0 && (u.MemoryLimit == nil || *u.MemoryLimit > machine) {
		u.MemoryLimit = &machine
	}
	if f, err := os.Open(fmt.Sprintf("/proc/%d/net/dev", st.Pid)); err == nil {
		u.NetReceived, u.NetSent = traffic(f)
		f.Close()
	}
	// Still the same process: then the number was its own all along.
	if unix.PidfdSendSignal(pidfd, 0, nil, 0) != nil {
		return Usage{}, ErrNotRunning
	}
	return u, nil
}

func totalMemory() uint64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return uint64(info.Totalram) * uint64(info.Unit)
}

// traffic sums up a /proc/PID/net/dev: two lines of headings, then one for each
// interface, its name before a colon, the bytes received in the first column
// behind it and those sent in the ninth.
func traffic(r io.Reader) (received, sent *uint64) {
	const sentAt, columns = 8, 16
	var in, out uint64
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		name, rest, ok := strings.Cut(lines.Text(), ":")
		f := strings.Fields(rest)
		if !ok || len(f) < columns || strings.TrimSpace(name) == "lo" {
			continue
		}
		i, err1 := strconv.ParseUint(f[0], 10, 64)
		o, err2 := strconv.ParseUint(f[sentAt], 10, 64)
		if err1 != nil || err2 != nil {
			return nil, nil
		}
		in, out = in+i, out+o
	}
	if lines.Err() != nil {
		return nil, nil
	}
	return &in, &out
}

// Pids are the processes of a container that runs, as the host counts, sorted.
// ErrNotRunning.
func (c *Container) Pids() ([]int, error) {
	pidfd, st, err := c.pidfd()
	if err != nil {
		return nil, err
	}
	defer unix.Close(pidfd)
	var pids []int
	if len(st.Cgroups) > 0 {
		group, err := cgroup.Open(st.Cgroups)
		if err != nil {
			return nil, err
		}
		if pids, err = group.Pids(); err != nil {
			return nil, err
		}
	} else if pids, err = kin(st.Pid); err != nil {
		return nil, err
	}
	slices.Sort(pids)
	pids = slices.Compact(pids)
	if unix.PidfdSendSignal(pidfd, 0, nil, 0) != nil {
		return nil, ErrNotRunning
	}
	return pids, nil
}

// kin finds the processes of a container without a cgroup: what has descended from
// its first process, whose orphans come back to it, and what exec has brought into
// its pid namespace, with its descendants.
func kin(first int) ([]int, error) {
	names, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	host, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return nil, err
	}
	home, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", first))
	if err != nil {
		return nil, ErrNotRunning
	}
	parent, inside := map[int]int{}, map[int]bool{first: true}
	for _, name := range names {
		pid, err := strconv.Atoi(name.Name())
		if err != nil {
			continue
		}
		f := statFields(pid)
		if len(f) < 2 {
			continue // it has ended
		}
		parent[pid], _ = strconv.Atoi(string(f[1]))
		if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid)); err == nil && ns == home && home != host {
			inside[pid] = true
		}
	}
	var pids []int
	for pid := range parent {
		// Bounded, as the parents were not looked up at one moment.
		for p, steps := pid, 0; p > 1 && steps < len(parent); p, steps = parent[p], steps+1 {
			if inside[p] {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids, nil
}
