package monitor

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"peel/internal/rawfork"
	"peel/internal/userns"
	"peel/pkg/run/internal/cgroup"
	"peel/pkg/run/internal/proto"
	"peel/pkg/run/internal/selfexe"
)

// cradle is what a child of this program is born into.
type cradle struct {
	group *cgroup.Group
	// thread changes the thread that clones.
	thread []func() error
	flags  uintptr // CLONE_NEW*
	// maps are the ids of the new user namespace in flags.
	maps *userns.Maps
	// userNS is a pidfd of a process whose user namespace the child enters.
	userNS *os.File
	// timeNS: thread has made a new time namespace, which a child may not enter
	// that shares this process's memory for a moment, as one of Go's does (before
	// Linux 6.3).
	timeNS bool
	setsid bool
}

// start starts this program again in one of its roles. extra are its descriptors
// from proto.FirstFD on.
func (c *cradle) start(role string, s Streams, p *pipes, extra []*os.File) (*Child, error) {
	self, err := selfexe.Open()
	if err != nil {
		return nil, err
	}
	defer self.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	files := append([]*os.File{s.In, s.Out, s.Err, p.configR, p.reportR}, extra...)
	fds := make([]uintptr, len(files))
	for i, f := range files {
		if f == nil {
			f = null
		}
		fds[i] = f.Fd()
	}
	// Go renumbers the child's files, and uses numbers right above the highest.
	exe, err := unix.FcntlInt(self.Fd(), unix.F_DUPFD_CLOEXEC, int(slices.Max(fds))+len(fds)+8)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", role, err)
	}
	program := os.NewFile(uintptr(exe), "self")
	defer program.Close()
	birth, err := c.group.BirthDir()
	if err != nil {
		return nil, err
	}
	cgroupFD := 0
	if birth != nil {
		defer birth.Close()
		cgroupFD = int(birth.Fd())
	}
	clone := c.byGo
	if c.userNS != nil || c.timeNS || c.maps != nil && c.maps.NeedsHelpers() {
		clone = c.byHand
	}
	var child *Child
	err = rawfork.OnSpentThread(func() error {
		for _, change := range c.thread {
			if err := change(); err != nil {
				return err
			}
		}
		var err error
		child, err = clone(selfexe.Path(program), role, fds, cgroupFD)
		return proto.Fail("start", role, err)
	})
	runtime.KeepAlive(files)
	if err != nil {
		return nil, err
	}
	p.closeTheirs()
	return child, nil
}

// environ is the environment of our own children: nothing of the caller's, and
// no more threads than they need.
func environ() []string { return []string{"GOMAXPROCS=1"} }

// byGo is how Go starts programs.
func (c *cradle) byGo(path, role string, files []uintptr, cgroup int) (*Child, error) {
	pidfd := -1
	sys := &syscall.SysProcAttr{Cloneflags: c.flags, Setsid: c.setsid, PidFD: &pidfd}
	if cgroup != 0 {
		sys.UseCgroupFD, sys.CgroupFD = true, cgroup
	}
	if c.maps != nil {
		sys.UidMappings, sys.GidMappings = mappings(c.maps.UIDs), mappings(c.maps.GIDs)
		sys.GidMappingsEnableSetgroups = os.Geteuid() == 0
		// execve keeps capabilities only for root of the new namespace.
		sys.Credential = &syscall.Credential{NoSetGroups: !sys.GidMappingsEnableSetgroups}
	}
	pid, _, err := syscall.StartProcess(path, []string{role}, &syscall.ProcAttr{Dir: "/", Env: environ(), Files: files, Sys: sys})
	if err != nil {
		return nil, err
	}
	if pidfd < 0 {
		if pidfd, err = unix.PidfdOpen(pid, 0); err != nil {
			return nil, fmt.Errorf("pidfd_open: %w", err)
		}
	}
	return &Child{Pid: pid, waitPid: pid, PidFD: os.NewFile(uintptr(pidfd), "pidfd")}, nil
}

// byHand is for what Go cannot do: see package rawfork.
func (c *cradle) byHand(path, role string, files []uintptr, cgroup int) (*Child, error) {
	a := &rawfork.Attr{Files: files, Env: environ(), Flags: uint64(c.flags), Cgroup: cgroup, Setsid: c.setsid, Root: c.maps != nil || c.userNS != nil}
	if c.maps != nil {
		a.Prepare = c.maps.Give
	}
	if c.userNS != nil {
		a.UserNS = int(c.userNS.Fd())
	}
	pid, pidfd, err := rawfork.Start(path, []string{role}, a)
	if err != nil {
		return nil, err
	}
	return &Child{Pid: pid, waitPid: pid, PidFD: pidfd}, nil
}

func mappings(list []specs.LinuxIDMapping) []syscall.SysProcIDMap {
	var out []syscall.SysProcIDMap
	for _, m := range list {
		out = append(out, syscall.SysProcIDMap{ContainerID: int(m.ContainerID), HostID: int(m.HostID), Size: int(m.Size)})
	}
	return out
}
