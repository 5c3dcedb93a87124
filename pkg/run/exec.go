package run

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"peel/internal/beneath"
	"peel/internal/users"
	"peel/pkg/run/internal/cgroup"
	"peel/pkg/run/internal/monitor"
	"peel/pkg/run/internal/proto"
)

// ExecOptions say what to run in a container beside its first process. What is
// left out is as for that one.
type ExecOptions struct {
	Args []string
	// Env goes over the container's; NAME without "=" takes a variable away.
	Env  []string
	Cwd  string
	User string // docker's user[:group]
	// Terminal gives the program a terminal of ConsoleSize: see
	// Process.Terminal.
	Terminal    bool
	ConsoleSize *specs.Box
}

// Exec starts another program in the container: in all its namespaces and
// cgroups, with its capabilities, seccomp filter and LSM label. The program is a
// child of this process. ErrNotRunning.
func (c *Container) Exec(o ExecOptions, streams Streams) (*Process, error) {
	if len(o.Args) == 0 {
		return nil, errors.New("exec: no command")
	}
	pidfd, st, err := c.pidfd()
	if err != nil {
		return nil, err
	}
	target := os.NewFile(uintptr(pidfd), "pidfd")
	defer target.Close()
	spec, err := c.Spec()
	if err != nil {
		return nil, err
	}
	process, err := c.execProcess(spec, st.Pid, o)
	if err != nil {
		return nil, err
	}
	if err := checkProcess(process); err != nil {
		return nil, err
	}
	kinds, err := foreignNamespaces(st.Pid)
	if err != nil {
		return nil, err
	}
	group, err := cgroup.Open(st.Cgroups)
	if err != nil {
		return nil, err
	}
	j := monitor.Joiner{
		Join:    proto.Join{Process: process, Namespaces: kinds &^ unix.CLONE_NEWUSER},
		UserNS:  kinds&unix.CLONE_NEWUSER != 0,
		Target:  target,
		Group:   group,
		Streams: monitor.Streams(streams),
	}
	if j.Join.Filter, err = filter(spec.Linux.Seccomp); err != nil {
		return nil, err
	}
	child, err := j.Start()
	if err != nil {
		return nil, err
	}
	return &Process{child: child, Terminal: child.Terminal}, nil
}

// execProcess is the container's process with the caller's wishes.
func (c *Container) execProcess(spec *specs.Spec, pid int, o ExecOptions) (*specs.Process, error) {
	p := *spec.Process
	p.Args, p.Terminal, p.ConsoleSize = o.Args, o.Terminal, o.ConsoleSize
	p.Env = slices.Clone(p.Env)
	if o.Cwd != "" {
		p.Cwd = o.Cwd
	}
	word := o.User
	if word == "" {
		word = c.User
	}
	if word != "" {
		// The kernel's own view of the container's root. It may change as we
		// look, so it is only ever read inside itself, and within bounds.
		root, err := beneath.OpenDir(fmt.Sprintf("/proc/%d/root", pid))
		if err != nil {
			return nil, err
		}
		defer root.Close()
		u, err := users.Lookup(root, word)
		if err != nil {
			return nil, err
		}
		p.User = specs.User{UID: u.UID, GID: u.GID, AdditionalGids: u.Groups, Umask: p.User.Umask}
		if u.Home != "" {
			p.Env = setEnv(p.Env, "HOME="+u.Home)
		}
	}
	p.Rlimits = withOpenFiles(p.Rlimits, pid)
	if o.Terminal && !slices.ContainsFunc(p.Env, func(e string) bool { return strings.HasPrefix(e, "TERM=") }) {
		p.Env = append(p.Env, "TERM=xterm")
	}
	for _, e := range o.Env {
		p.Env = setEnv(p.Env, e)
	}
	return &p, nil
}

const openFiles = "RLIMIT_NOFILE"

// withOpenFiles adds the limit on open files that a process of the container has,
// where the config says nothing: the Go runtime has raised our own, and a program
// that closes all descriptors up to it would take minutes.
func withOpenFiles(limits []specs.POSIXRlimit, pid int) []specs.POSIXRlimit {
	if slices.ContainsFunc(limits, func(l specs.POSIXRlimit) bool { return l.Type == openFiles }) {
		return limits
	}
	var ours unix.Rlimit
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil || unix.Getrlimit(unix.RLIMIT_NOFILE, &ours) != nil {
		return limits
	}
	for line := range strings.Lines(string(b)) {
		var soft, hard uint64
		if n, _ := fmt.Sscanf(line, "Max open files %d %d files", &soft, &hard); n == 2 {
			// No more than is ours to give.
			return append(slices.Clone(limits), specs.POSIXRlimit{Type: openFiles, Soft: min(soft, ours.Max), Hard: min(hard, ours.Max)})
		}
	}
	return limits
}

// setEnv puts NAME=value into env; NAME alone takes it out.
func setEnv(env []string, e string) []string {
	name, _, hasValue := strings.Cut(e, "=")
	env = slices.DeleteFunc(env, func(have string) bool { return strings.HasPrefix(have, name+"=") })
	if hasValue {
		env = append(env, e)
	}
	return env
}

// foreignNamespaces are the CLONE_NEW* kinds in which a process lives in another
// namespace than this one.
func foreignNamespaces(pid int) (int, error) {
	kinds := 0
	for name, kind := range map[string]int{
		"mnt": unix.CLONE_NEWNS, "pid": unix.CLONE_NEWPID, "uts": unix.CLONE_NEWUTS, "ipc": unix.CLONE_NEWIPC,
		"net": unix.CLONE_NEWNET, "cgroup": unix.CLONE_NEWCGROUP, "user": unix.CLONE_NEWUSER, "time": unix.CLONE_NEWTIME,
	} {
		var ours, theirs unix.Stat_t
		if err := unix.Stat("/proc/self/ns/"+name, &ours); err != nil {
			return 0, fmt.Errorf("%s namespace: %w", name, err)
		}
		if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/%s", pid, name), &theirs); err != nil {
			if err == unix.ENOENT || err == unix.ESRCH {
				return 0, ErrNotRunning // by now; a kernel without the kind has failed above
			}
			return 0, fmt.Errorf("%s namespace of the container: %w", name, err)
		}
		if ours.Ino != theirs.Ino || ours.Dev != theirs.Dev {
			kinds |= kind
		}
	}
	return kinds, nil
}
