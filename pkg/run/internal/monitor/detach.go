package monitor

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"peel/internal/userns"
	"peel/pkg/run/internal/proto"
)

// Detach starts the monitor in a session of its own, tells it config, hands it
// files as its descriptors from proto.FirstFD on, and waits until it has said how
// the container's start went.
func Detach(config any, files ...*os.File) error {
	pipes, err := newPipes()
	if err != nil {
		return err
	}
	defer pipes.Close()
	c, err := (&cradle{setsid: true}).start(proto.MonitorName, Streams{}, pipes, files)
	if err != nil {
		return err
	}
	defer c.Close()
	err = pipes.send(config)
	var r proto.Report
	if err == nil {
		r, err = pipes.follow(c, nil)
	}
	if err != nil {
		_, werr := c.Wait() // it has said why and ends
		return errors.Join(err, werr)
	}
	if r.Stage != "exec" {
		_, _ = c.Wait()
		return errors.New("the container's monitor ended before it could say how the start went")
	}
	return nil
}

// RemoveTree removes a tree in which some files belong to subordinate ids of this
// user, in a user namespace that has them.
func RemoveTree(path string) error {
	own := userns.Own()
	return call(proto.RemoveName, path, &cradle{flags: unix.CLONE_NEWUSER, maps: &own})
}

// TryOverlay lays an overlay on a directory of dir's, as a user's container would.
func TryOverlay(dir string) error {
	own := userns.Own()
	return call(proto.OverlayName, dir, &cradle{flags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS, maps: &own})
}

// call has a child that plays a role do something with a path.
func call(role, path string, from *cradle) error {
	pipes, err := newPipes()
	if err != nil {
		return err
	}
	defer pipes.Close()
	c, err := from.start(role, Streams{}, pipes, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	if err = pipes.send(path); err == nil {
		_, err = pipes.follow(c, nil)
	}
	_, werr := c.Wait()
	return errors.Join(err, werr)
}
