package run

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"syscall"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"peel/pkg/run/internal/cgroup"
	"peel/pkg/run/internal/monitor"
	"peel/pkg/run/internal/proto"
)

// Process is a program that this process started in a container: its first one
// or one that Exec added.
type Process struct {
	// Terminal is the controlling end of the program's terminal, nil without
	// one. It is closed by Wait.
	Terminal *os.File

	child     *monitor.Child
	container *Container // of a first process
	lock      *os.File
	kept      *Tree // for others who start containers of its image; may be nil
	group     *cgroup.Group
	last      LastRun
	// sharesPids: the end of the process does not end the others of the
	// container.
	sharesPids bool
	spec       *specs.Spec
	// beforeEnd is called when the process has ended and before its run is
	// over for others.
	beforeEnd func()
	// again says whether the container is going to be started again by who holds
	// its lock; nil: it is not.
	again func(code int) bool
}

// Pid is the process as the host counts.
func (p *Process) Pid() int { return p.child.Pid }

// Signal sends a signal. os.ErrProcessDone says that the process has ended.
func (p *Process) Signal(sig syscall.Signal) error { return p.child.Signal(sig) }

// Wait waits for the end of the process and returns its exit code, 128+n after
// signal n. For the first process it also ends the container's run: what is
// left of it in the kernel is removed, its exit code kept.
func (p *Process) Wait() (int, error) {
	if p.lock != nil {
		defer p.lock.Close()
	}
	code, _, err := p.end()
	return code, err
}

// end is Wait without letting go of the lock. again: by policy the container is to
// be started again.
func (p *Process) end() (code int, again bool, err error) {
	ws, err := p.child.Wait()
	if err != nil {
		return 0, false, err
	}
	code = ws.ExitStatus()
	if ws.Signaled() {
		code = 128 + int(ws.Signal())
	}
	defer p.child.Close()
	if p.beforeEnd != nil {
		p.beforeEnd()
	}
	if p.container == nil {
		return code, false, nil
	}
	again = p.again != nil && p.again(code)
	return code, again, p.finish(code, again)
}

// finish ends the run of a container whose first process has ended with code.
func (p *Process) finish(code int, again bool) error {
	c := p.container
	p.last.Finished, p.last.Code = time.Now(), code
	p.last.OOMKilled = code == 128+int(unix.SIGKILL) && p.group.OOMKills() > 0
	err := c.takeBack(p.kept)
	if p.sharesPids {
		err = errors.Join(err, killGroup(p.group))
	}
	if c.AutoRemove {
		err = errors.Join(err, leaveCode(p.lock, code), p.group.Remove())
		p.warn(c.stopped(p.spec))
		return errors.Join(err, c.dropState(), c.remove())
	}
	next := c.dropState
	if again {
		// Before anybody can find a run that is over.
		err = errors.Join(err, c.setState(state{Restarting: true, Cgroups: p.group.Paths()}))
		next = func() error { return c.setState(state{Restarting: true}) }
	}
	// The exit code first: once the state is gone nobody can find it out.
	err = errors.Join(err, writeJSON(c.rt.lastRunFile(c.ID), &p.last, !again), p.group.Remove())
	if p.warn(c.stopped(p.spec)) {
		err = errors.Join(err, writeJSON(c.rt.lastRunFile(c.ID), &p.last, !again))
	}
	return errors.Join(err, next())
}

// Warnings tell what went wrong after the container's end, once Wait has returned.
func (p *Process) Warnings() []string { return p.last.Warnings }

func (p *Process) warn(failed []error) bool {
	for _, err := range failed {
		p.last.Warnings = append(p.last.Warnings, err.Error())
	}
	return len(failed) > 0
}

// ExitCode is docker's exit code for an error of Start or Exec: 127 when the
// program is not there, 126 when it cannot be executed, 125 for all else.
func ExitCode(err error) int {
	f := (*proto.Failure)(nil)
	switch {
	case err == nil:
		return 0
	case !errors.As(err, &f) || f.Stage != "exec":
		return 125
	case errors.Is(err, fs.ErrNotExist):
		return 127
	}
	return 126
}

// bornAt is when a process started, in ticks since boot; 0 when it is gone. A
// zombie is gone. Together with the pid it names a process for good.
func bornAt(pid int) uint64 {
	f := statFields(pid)
	if len(f) < 20 || f[0][0] == 'Z' || f[0][0] == 'X' {
		return 0
	}
	t, err := strconv.ParseUint(string(f[19]), 10, 64)
	if err != nil {
		return 0
	}
	return t
}

// statFields are the fields of /proc/PID/stat from the third on, the state; nil
// where there is no such process.
func statFields(pid int) [][]byte {
	if pid <= 0 {
		return nil
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	// proc_pid_stat(5): the name in field 2 may hold spaces and parentheses.
	return bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
}
