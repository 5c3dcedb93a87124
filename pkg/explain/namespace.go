package explain

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// Namespace is one of the process's views of the machine.
type Namespace struct {
	Kind  string `json:"kind"`  // mnt, pid, net, uts, ipc, user, cgroup or time
	Inode uint64 `json:"inode"` // its identity while it exists
	// Host says that it is the host's: that of process 1, or where that may not be
	// read, the caller's own.
	Host bool `json:"host"`
	// Shared counts the other processes in it, as far as the caller may know, and
	// With names the first of them.
	Shared int    `json:"shared"`
	With   []Peer `json:"with,omitempty"`
}

// kinds are the namespaces, in the order in which they matter to who looks.
var kinds = [...]string{"mnt", "pid", "net", "uts", "ipc", "user", "cgroup", "time"}

// namesOfPeers is how many of the processes in a namespace are named.
const namesOfPeers = 5

// Namespace returns the namespace of that kind; nil if there is none or it could
// not be read.
func (r *Report) Namespace(kind string) *Namespace {
	for i := range r.Namespaces {
		if r.Namespaces[i].Kind == kind {
			return &r.Namespaces[i]
		}
	}
	return nil
}

func (p *process) namespaces(ctx context.Context) error {
	var err error
	if p.host, err = namespacesOf(p.fs, "proc/1"); err != nil {
		if p.host, err = namespacesOf(p.fs, "proc/self"); err != nil {
			return err
		}
	}
	own, err := namespacesOf(p.fs, p.dir)
	if err != nil {
		return err
	}
	for _, kind := range kinds {
		if inode, ok := own[kind]; ok {
			p.r.Namespaces = append(p.r.Namespaces, Namespace{Kind: kind, Inode: inode, Host: inode == p.host[kind]})
		}
	}
	return p.peers(ctx)
}

// peers finds who is in the same namespaces.
func (p *process) peers(ctx context.Context) error {
	entries, err := fs.ReadDir(p.fs, "proc")
	if err != nil {
		return err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == p.r.PID {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		theirs, err := namespacesOf(p.fs, "proc/"+e.Name())
		if err != nil { // it has ended, or is somebody else's
			continue
		}
		var name string
		for i := range p.r.Namespaces {
			n := &p.r.Namespaces[i]
			if theirs[n.Kind] != n.Inode {
				continue
			}
			n.Shared++
			if n.Host || len(n.With) == namesOfPeers {
				continue // all of the machine is no news
			}
			if name == "" {
				name = comm(p.fs, pid)
			}
			n.With = append(n.With, Peer{pid, name})
		}
	}
	return nil
}

// namespacesOf reads the links of a process's ns directory. Kinds that this kernel
// does not have are missing.
func namespacesOf(root fs.FS, dir string) (map[string]uint64, error) {
	found := map[string]uint64{}
	for _, kind := range kinds {
		target, err := fs.ReadLink(root, dir+"/ns/"+kind)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, gone(err)
		}
		inode, err := parseNamespace(target)
		if err != nil {
			return nil, err
		}
		found[kind] = inode
	}
	if len(found) == 0 {
		return nil, ErrGone
	}
	return found, nil
}

// parseNamespace reads "net:[4026531840]".
func parseNamespace(target string) (uint64, error) {
	_, rest, ok := strings.Cut(target, ":[")
	inode, err := strconv.ParseUint(strings.TrimSuffix(rest, "]"), 10, 64)
	if !ok || err != nil {
		return 0, fmt.Errorf("namespace %q makes no sense", target)
	}
	return inode, nil
}

// IDRange is a run of ids that a user namespace knows.
type IDRange struct {
	Inside  int64 `json:"inside"`  // the first as the process sees it
	Outside int64 `json:"outside"` // and as the reader does
	Count   int64 `json:"count"`
}

func (p *process) idMaps(context.Context) error {
	var err error
	if p.r.UIDMap, err = p.idMap("uid_map"); err != nil {
		return err
	}
	p.r.GIDMap, err = p.idMap("gid_map")
	return err
}

func (p *process) idMap(name string) ([]IDRange, error) {
	b, err := p.read(name, small)
	if err != nil {
		return nil, err
	}
	return parseIDMap(b)
}

// parseIDMap reads lines of three numbers: inside, outside, count.
func parseIDMap(b []byte) ([]IDRange, error) {
	var ranges []IDRange
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		var n [3]int64
		var err error
		for i := range n {
			if len(f) != len(n) || err != nil {
				return nil, fmt.Errorf("id map line %q makes no sense", line)
			}
			n[i], err = strconv.ParseInt(f[i], 10, 64)
		}
		if err != nil {
			return nil, fmt.Errorf("id map line %q makes no sense", line)
		}
		ranges = append(ranges, IDRange{n[0], n[1], n[2]})
	}
	return ranges, nil
}

// Identity tells whether a map gives every id the same number outside: that is how
// a namespace looks that maps nothing.
func Identity(ranges []IDRange) bool {
	return len(ranges) == 1 && ranges[0] == IDRange{0, 0, 1<<32 - 1}
}
