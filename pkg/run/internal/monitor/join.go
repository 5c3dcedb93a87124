package monitor

import (
	"errors"
	"os"
	"syscall"

	"peel/pkg/run/internal/cgroup"
	"peel/pkg/run/internal/proto"
)

// Joiner is a program about to start in a container that runs.
type Joiner struct {
	Join    proto.Join
	Target  *os.File // a pidfd of the container's first process
	Group   *cgroup.Group
	Streams Streams
}

// Start starts the program in the container's namespaces and cgroups.
func (j *Joiner) Start() (*Child, error) {
	pipes, err := newPipes()
	if err != nil {
		return nil, err
	}
	defer pipes.Close()
	// A session of its own: what is typed at the caller's terminal is not for
	// the joiner.
	sys := &syscall.SysProcAttr{Setsid: true}
	c, err := startSelf(proto.JoinName, j.Group, []func() error{j.Group.EnterThread}, j.Streams, pipes, []*os.File{j.Target}, sys)
	if err != nil {
		return nil, err
	}
	err = pipes.send(&j.Join)
	var r proto.Report
	if err == nil {
		r, err = pipes.follow(c)
	}
	if err == nil && r.Stage != "forked" {
		err = errors.New("the joiner ended before the program began")
	}
	if err != nil {
		c.Abandon()
		return nil, err
	}
	return c, nil
}
