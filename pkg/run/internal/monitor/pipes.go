package monitor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"peel/pkg/run/internal/proto"
)

// pipes are the two ways between parent and child: see package proto.
type pipes struct{ configR, configW, reportR, reportW *os.File }

func newPipes() (*pipes, error) {
	p := &pipes{}
	var err error
	if p.configR, p.configW, err = os.Pipe(); err != nil {
		return nil, err
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		p.Close()
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	// Plain blocking descriptors: the child's end goes to a child, ours is read
	// by recvmsg alone.
	p.reportW, p.reportR = os.NewFile(uintptr(fds[0]), "report"), os.NewFile(uintptr(fds[1]), "report")
	return p, nil
}

func (p *pipes) closeTheirs() {
	p.configR.Close()
	p.reportR.Close()
}

// Close closes all ends that are still open.
func (p *pipes) Close() {
	for _, f := range []*os.File{p.configR, p.configW, p.reportR, p.reportW} {
		if f != nil {
			f.Close()
		}
	}
}

// send writes the config and closes the pipe. A child that is gone shows in
// follow, with a better reason than EPIPE.
func (p *pipes) send(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = p.configW.Write(b)
	if cerr := p.configW.Close(); err == nil {
		err = cerr
	}
	if errors.Is(err, unix.EPIPE) {
		err = nil
	}
	return err
}

// follow reads reports until the child's end is closed, and returns the last. A
// child that reports a stage in answers waits until that has been called.
func (p *pipes) follow(c *Child, answers map[string]func(proto.Report) error) (proto.Report, error) {
	var latest proto.Report
	for {
		r, fds, err := proto.Receive(int(p.reportW.Fd()))
		if err == io.EOF {
			return latest, nil
		}
		if err != nil {
			return latest, err
		}
		for i, fd := range fds {
			switch {
			case i == 0 && r.Stage == "pty" && c.Terminal == nil:
				c.Terminal = os.NewFile(uintptr(fd), "pty")
			case i == 0 && r.Stage == "forked":
				c.PidFD.Close()
				c.Pid, c.PidFD = r.Pid, os.NewFile(uintptr(fd), "pidfd")
			default:
				unix.Close(fd)
			}
		}
		if r.Stage == "failed" && r.Failure != nil {
			return r, r.Failure
		}
		if answer, ok := answers[r.Stage]; ok {
			if err := answer(r); err != nil {
				return r, err
			}
			// One that was killed meanwhile shows in its end.
			if err := proto.Proceed(int(p.reportW.Fd())); err != nil && !errors.Is(err, unix.EPIPE) {
				return r, err
			}
		}
		latest = r
	}
}
