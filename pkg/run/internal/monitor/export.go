package monitor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"peel/internal/userns"
	"peel/pkg/run/internal/proto"
)

// Export has a child in a user namespace with these ids, and a mount namespace,
// read a tree and write it to out as an archive. The child is told config, and
// handed root unless that is nil. warn hears of what it could not keep.
func Export(ctx context.Context, maps userns.Maps, config any, root, out *os.File, warn func(string)) error {
	pipes, err := newPipes()
	if err != nil {
		return err
	}
	defer pipes.Close()
	var extra []*os.File
	if root != nil {
		extra = append(extra, root)
	}
	c, err := (&cradle{flags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS, maps: &maps}).start(proto.ExportName, Streams{Out: out}, pipes, extra)
	if err != nil {
		return err
	}
	defer c.Close()
	killed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(killed)
		_ = c.Signal(unix.SIGKILL)
	})
	defer func() {
		if !stop() {
			<-killed
		}
	}()
	done := false
	if err = pipes.send(config); err == nil {
		done, err = pipes.archived(warn)
	}
	ws, werr := c.Wait()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Join(err, werr) != nil:
		return errors.Join(err, werr)
	case !done && ws.Signaled() && ws.Signal() == unix.SIGPIPE:
		return &os.PathError{Op: "write", Path: out.Name(), Err: unix.EPIPE}
	case !done:
		return fmt.Errorf("the program that reads the tree has ended too early: %#x", uint32(ws))
	}
	return nil
}

// archived follows the reports of an export, and tells whether it has come to its
// end.
func (p *pipes) archived(warn func(string)) (done bool, err error) {
	for {
		r, fds, err := proto.Receive(int(p.reportW.Fd()))
		for _, fd := range fds {
			unix.Close(fd)
		}
		switch {
		case err == io.EOF:
			return done, nil
		case err != nil:
			return done, err
		case r.Stage == "failed" && r.Failure != nil:
			return false, r.Failure
		case r.Stage == "warning":
			warn(r.Text)
		case r.Stage == "done":
			done = true
		}
	}
}
