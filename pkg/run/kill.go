package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"peel/pkg/run/internal/cgroup"
)

// pidfd opens the container's first process, so that it and no later process of
// the same number is meant. ErrNotRunning.
func (c *Container) pidfd() (fd int, st state, err error) {
	if err := readJSON(c.rt.stateFile(c.ID), &st); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			err = ErrNotRunning
		}
		return -1, st, err
	}
	fd, err = unix.PidfdOpen(st.Pid, 0)
	if err == unix.ESRCH {
		return -1, st, ErrNotRunning
	}
	if err != nil {
		return -1, st, fmt.Errorf("process %d: %w", st.Pid, err)
	}
	// Looked at after it was opened: now the number cannot pass to another.
	if bornAt(st.Pid) != st.Birth {
		unix.Close(fd)
		return -1, st, ErrNotRunning
	}
	return fd, st, nil
}

// Kill sends a signal to the container's first process. ErrNotRunning.
func (c *Container) Kill(sig syscall.Signal) error {
	fd, _, err := c.pidfd()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = unix.PidfdSendSignal(fd, sig, nil, 0)
	if err == unix.ESRCH {
		return ErrNotRunning
	}
	return err
}

// Stop asks the container to end with its stop signal, waits for grace, and
// then kills it. It returns when the run is over. One that does not run is fine.
func (c *Container) Stop(ctx context.Context, grace time.Duration) error {
	sig := unix.SIGTERM
	if c.StopSignal != "" {
		var err error
		if sig, err = ParseSignal(c.StopSignal); err != nil {
			return err
		}
	}
	switch err := c.Kill(sig); {
	case errors.Is(err, ErrNotRunning):
		return nil
	case err != nil:
		return err
	}
	patience, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	_, err := c.Wait(patience)
	if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return c.killAll(ctx)
}

// killAll kills the container and waits for the end of its run.
func (c *Container) killAll(ctx context.Context) error {
	err := c.Kill(unix.SIGKILL)
	if err != nil && !errors.Is(err, ErrNotRunning) {
		return err
	}
	if _, err := c.Wait(ctx); err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, errNeverRan) {
		return err
	}
	return nil
}

var errNeverRan = errors.New("container was never started")

// Wait waits for the end of the present run and returns its exit code; after
// the last run it returns that one's at once.
func (c *Container) Wait(ctx context.Context) (int, error) {
	fd, _, err := c.pidfd()
	switch {
	case err == nil:
		err = waitPidfd(ctx, fd)
		unix.Close(fd)
		if err != nil {
			return 0, err
		}
	case !errors.Is(err, ErrNotRunning):
		return 0, err
	}
	// Whoever waited for the process now keeps its exit code, and then lets go
	// of the lock.
	if err := c.waitLock(ctx); err != nil {
		return 0, err
	}
	s, err := c.Status()
	if err != nil {
		return 0, err
	}
	switch s.Phase {
	case Exited:
		return s.Code, nil
	case Created:
		if _, err := os.Lstat(c.rt.recordFile(c.ID)); errors.Is(err, os.ErrNotExist) {
			return 0, fmt.Errorf("%.12s: %w", c.ID, ErrNotFound)
		}
		return 0, errNeverRan
	}
	return 0, ErrRunning
}

// waitPidfd waits until the process has ended.
func waitPidfd(ctx context.Context, fd int) error {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return err
	}
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_, _ = unix.Write(wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		close(woken)
	})
	defer func() {
		if !stop() {
			<-woken
		}
		unix.Close(wake)
	}()
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(wake), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil {
			if err == unix.EINTR {
				continue
			}
			return err
		}
		if fds[0].Revents != 0 {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// waitLock waits until nobody holds the container's lock. The goroutine that
// waits outlives a cancelled ctx until the holder lets go, as flock(2) cannot
// be interrupted.
func (c *Container) waitLock(ctx context.Context) error {
	free := make(chan error, 1)
	go func() {
		f, err := os.OpenFile(c.rt.lockFile(c.ID), os.O_RDWR, 0)
		if errors.Is(err, os.ErrNotExist) {
			free <- nil
			return
		}
		if err == nil {
			for {
				if err = unix.Flock(int(f.Fd()), unix.LOCK_SH); err != unix.EINTR {
					break
				}
			}
			f.Close()
		}
		free <- err
	}()
	select {
	case err := <-free:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// killGroup kills all processes of a cgroup, again until none is left: one may
// fork while it is being looked for.
func killGroup(g *cgroup.Group) error {
	for range 100 {
		pids, err := g.Pids()
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				continue
			}
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
			_ = waitPidfd(context.Background(), fd)
			unix.Close(fd)
		}
	}
	return errors.New("cgroup: processes keep appearing")
}
