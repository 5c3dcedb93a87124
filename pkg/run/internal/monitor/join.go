package monitor

import (
	"errors"
	"os"

	"peel/pkg/run/internal/cgroup"
	"peel/pkg/run/internal/proto"
)

// Joiner is a program about to start in a container that runs.
type Joiner struct {
	Join    proto.Join
	Target  *os.File // a pidfd of the container's first process
	Group   *cgroup.Group
	Streams Streams
	// UserNS: the container has a user namespace of its own, where the joiner
	// begins.
	UserNS bool
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
	group := j.Group
	if j.Join.Late = group.PidsLimited(); j.Join.Late {
		// The joiner has more threads than there may be room for.
		group = group.BesidePids()
	}
	born := cradle{group: group, thread: []func() error{group.EnterThread}, setsid: true}
	if j.UserNS {
		born.userNS = j.Target
	}
	handed := []*os.File{j.Target}
	var leave *os.File
	if j.Join.Process.Terminal {
		left, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		defer left.Close()
		leave, handed = w, append(handed, left)
	}
	c, err := born.start(proto.JoinName, j.Streams, pipes, handed)
	if err != nil {
		if leave != nil {
			leave.Close()
		}
		return nil, err
	}
	c.leave = leave
	err = pipes.send(&j.Join)
	var r proto.Report
	if err == nil {
		r, err = pipes.follow(c, map[string]func(proto.Report) error{
			"born": func(r proto.Report) error { return j.Group.EnterPids(r.Pid) },
		})
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
