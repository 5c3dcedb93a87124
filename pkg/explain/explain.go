// Package explain reads what confines a process.
//
// A container is no object of the kernel. It is a process like any other, whose
// view of the machine and whose powers were cut down before its program was
// started, by means that are independent of each other:
//
//	namespaces     which files, processes, network, names and users it sees
//	id maps        whose rights its users have outside
//	capabilities   which of root's powers it has
//	seccomp        which system calls it may make
//	LSM label      what AppArmor or SELinux add to that
//	cgroup         how much memory, processor and processes it may use
//	mounts         what its root file system is made of, what is hidden in it
//
// Process collects them into a Report. It reads /proc and the cgroup file system
// as they stand outside. It never enters a namespace, opens no file of the
// process (not even its root directory), sends it no signal and does not trace
// it; so nothing that a container puts into its own files can be run, followed or
// waited for.
package explain

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// ErrGone means that there is no such process, or that it ended meanwhile.
var ErrGone = errors.New("no such process")

// Report is what confines a process. The names of its JSON fields stay as they
// are. Strings come from the process and may hold any character.
type Report struct {
	PID        int      `json:"pid"`
	Name       string   `json:"name"`
	Command    []string `json:"command,omitempty"`    // cut off after 4 KiB
	Executable string   `json:"executable,omitempty"` // as the process's own root has it
	Parent     Peer     `json:"parent"`
	// PIDs are the process's numbers, from the reader's pid namespace to its own.
	PIDs   []int `json:"pids"`
	UID    int64 `json:"uid"` // effective, as the reader sees it
	GID    int64 `json:"gid"`
	Groups []int `json:"groups,omitempty"`

	Namespaces   []Namespace  `json:"namespaces"`
	UIDMap       []IDRange    `json:"uidMap,omitempty"`
	GIDMap       []IDRange    `json:"gidMap,omitempty"`
	Capabilities Capabilities `json:"capabilities"`
	Seccomp      Seccomp      `json:"seccomp"`
	NoNewPrivs   bool         `json:"noNewPrivs"`
	Label        string       `json:"label,omitempty"` // of AppArmor or SELinux
	Cgroup       Cgroup       `json:"cgroup"`
	Root         Root         `json:"root"`
	// HostFiles are the descriptors of files that the process could not reach by
	// any path of its own.
	HostFiles []Descriptor `json:"hostFiles,omitempty"`

	// Unreadable names what the caller may not read, or could not.
	Unreadable []Unreadable `json:"unreadable,omitempty"`
}

// Peer is another process.
type Peer struct {
	PID  int    `json:"pid"`
	Name string `json:"name,omitempty"`
}

// Unreadable is something that a Report lacks, and why.
type Unreadable struct {
	What string `json:"what"`
	Why  string `json:"why"`
	err  error
}

// Seccomp is how system calls are filtered. Which calls the filters refuse can't be
// read without stopping the process: Process leaves that to those who know what the
// filter was made of.
type Seccomp struct {
	Mode    string `json:"mode"`              // none, strict or filter
	Filters int    `json:"filters,omitempty"` // 0 if the kernel does not say (before 5.9)
	// Refused are calls that are always refused, and Conditional those that are with
	// some arguments.
	Refused     []string `json:"refused,omitempty"`
	Conditional []string `json:"conditional,omitempty"`
}

// Process reads what confines the process pid. root is the machine's file system
// as the caller sees it, os.DirFS("/"), of which proc and sys are read; it must
// have symbolic links (fs.ReadLinkFS).
//
// What may not be read, mostly another user's process, is missing from the Report
// and named in Unreadable. A process that ends meanwhile is ErrGone.
func Process(ctx context.Context, root fs.FS, pid int) (*Report, error) {
	p := &process{fs: root, dir: fmt.Sprintf("proc/%d", pid), r: &Report{PID: pid}}
	started, err := p.started()
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	for _, part := range []struct {
		what string
		read func(context.Context) error
	}{
		{"status", p.status},
		{"command line", p.command},
		{"executable", p.executable},
		{"parent", p.parent},
		{"namespaces", p.namespaces},
		{"id maps", p.idMaps},
		{"security label", p.label},
		{"cgroup", p.cgroup},
		{"mounts", p.mounts},
		{"descriptors", p.descriptors},
	} {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := part.read(ctx); err != nil {
			p.miss(part.what, err)
		}
	}
	// The number may have gone to another process on the way: then part of the
	// report speaks of that one.
	if again, err := p.started(); err != nil || again != started {
		return nil, fmt.Errorf("process %d: %w", pid, ErrGone)
	}
	return p.r, nil
}

// process is one to report on.
type process struct {
	fs  fs.FS
	dir string // proc/PID
	r   *Report

	host map[string]uint64 // the host's namespaces, by kind
	ids  map[int]bool      // of the mounts in its mount namespace; nil if unknown
}

// miss notes that a part of the report could not be read.
func (p *process) miss(what string, err error) {
	why := err.Error()
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		why = pathErr.Err.Error()
	}
	p.r.Unreadable = append(p.r.Unreadable, Unreadable{what, why, err})
}

// Denied tells whether the caller's rights were too few for something.
func (r *Report) Denied() bool {
	for _, u := range r.Unreadable {
		if errors.Is(u.err, fs.ErrPermission) {
			return true
		}
	}
	return false
}

// patience bounds the wait for the process's own memory: its pages may be a file's
// that the container serves itself, as slowly as it likes.
const patience = time.Second
