package monitor

import (
	"errors"

	"peel/pkg/run/internal/proto"
)

// Detach starts the monitor in a session of its own, tells it config, and waits
// until it has said how the container's start went.
func Detach(config any) error {
	pipes, err := newPipes()
	if err != nil {
		return err
	}
	defer pipes.Close()
	c, err := (&cradle{setsid: true}).start(proto.MonitorName, Streams{}, pipes, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	err = pipes.send(config)
	var r proto.Report
	if err == nil {
		r, err = pipes.follow(c)
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
