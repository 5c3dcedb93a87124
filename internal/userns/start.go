package userns

import (
	"fmt"
	"io"
	"os"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"peel/internal/rawfork"
)

// Child is this program, started again in a user namespace.
type Child struct {
	pid   int
	pidfd *os.File
}

// Start starts this program once more, as root of a new user namespace that has
// these ids, which NeedsHelpers. Its working directory, supplementary groups and
// umask are this process's. files become its descriptors from 0 on.
func (m Maps) Start(argv, env []string, files []*os.File) (*Child, error) {
	a := &rawfork.Attr{Env: env, Flags: unix.CLONE_NEWUSER, Prepare: m.Give, Root: true, KeepGroups: true}
	for _, f := range files {
		a.Files = append(a.Files, f.Fd())
	}
	pid, pidfd, err := rawfork.Start("/proc/self/exe", argv, a)
	if err != nil {
		return nil, fmt.Errorf("user namespace: %w", err)
	}
	return &Child{pid, pidfd}, nil
}

// Wait waits for the child's end. It is to be called once.
func (c *Child) Wait() (unix.WaitStatus, error) {
	defer c.pidfd.Close()
	var ws unix.WaitStatus
	for {
		if _, err := unix.Wait4(c.pid, &ws, 0, nil); err != unix.EINTR {
			return ws, os.NewSyscallError("wait4", err)
		}
	}
}

// Current are the ids of the user namespace that this process is in, as they are
// called in the one above (user_namespaces(7)).
func Current() (Maps, error) {
	uids, err := readMap("/proc/self/uid_map")
	if err != nil {
		return Maps{}, err
	}
	gids, err := readMap("/proc/self/gid_map")
	return Maps{uids, gids}, err
}

func readMap(file string) ([]specs.LinuxIDMapping, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var out []specs.LinuxIDMapping
	for line := range strings.Lines(string(b)) {
		var m specs.LinuxIDMapping
		if n, err := fmt.Sscan(line, &m.ContainerID, &m.HostID, &m.Size); n != 3 {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		out = append(out, m)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: %w", file, io.ErrUnexpectedEOF)
	}
	return out, nil
}
