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
	if st, err = c.state(); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			err = ErrNotRunning
		}
		return -1, st, err
	}
	if st.Pid == 0 {
		return -1, st, ErrNotRunning
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

// Kill sends a signal to the container's first process. KILL and the stop signal,
// or any signal if no stop signal was chosen, end its restart policy, as docker's
// do. ErrNotRunning.
func (c *Container) Kill(sig syscall.Signal) error {
	if !c.endsPolicy(sig) {
		return c.signal(sig)
	}
	between, err := c.stopFinally(sig)
	if between && errors.Is(err, ErrNotRunning) {
		return nil
	}
	return err
}

// signal sends a signal to the first process. ErrNotRunning.
func (c *Container) signal(sig syscall.Signal) error {
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

// defaultGrace is docker's.
const defaultGrace = 10 * time.Second

// Grace is how long the container was said to need to end by itself; negative is
// for ever.
func (c *Container) Grace() time.Duration {
	if c.StopTimeout == nil {
		return defaultGrace
	}
	return time.Duration(*c.StopTimeout) * time.Second
}

// Stop asks the container to end with its stop signal, waits for grace, and
// then kills it; a negative grace is for ever. It returns when the run is over.
// One that does not run is fine. Its restart policy ends, too.
func (c *Container) Stop(ctx context.Context, grace time.Duration) error {
	sig := unix.SIGTERM
	if c.StopSignal != "" {
		var err error
		if sig, err = ParseSignal(c.StopSignal); err != nil {
			return err
		}
	}
	between, err := c.stopFinally(sig)
	switch {
	case errors.Is(err, ErrNotRunning) && between:
		return c.waitUnattended(ctx)
	case errors.Is(err, ErrNotRunning):
		return nil
	case err != nil:
		return err
	}
	patience := ctx
	if grace >= 0 {
		var cancel func()
		patience, cancel = context.WithTimeout(ctx, grace)
		defer cancel()
	}
	_, err = c.Wait(patience)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		if err = c.signal(unix.SIGKILL); err == nil || errors.Is(err, ErrNotRunning) {
			_, err = c.Wait(ctx)
		}
	}
	if errors.Is(err, ErrNotFound) {
		return nil // it has removed itself
	}
	return err
}

// lockKilled kills the container, whatever state it is in, and takes its lock.
func (c *Container) lockKilled(ctx context.Context) (*os.File, error) {
	for {
		if !c.Restart.Never() {
			// Each time: a monitor that was just about to listen may do so now.
			if _, _, err := c.endPolicy(); err != nil {
				return nil, err
			}
		}
		fd, _, err := c.pidfd()
		switch {
		case err == nil:
			err = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
			if err == nil || err == unix.ESRCH {
				err = waitPidfd(ctx, fd)
			}
			unix.Close(fd)
			if err != nil {
				return nil, err
			}
		case !errors.Is(err, ErrNotRunning):
			return nil, err
		}
		lock, err := c.lock()
		if !errors.Is(err, ErrRunning) {
			return lock, err
		}
		// Whoever waited for it tidies up, or another start is on its way, which
		// has nothing to kill yet.
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
	}
}

var errNeverRan = errors.New("container was never started")

// Wait waits for the end of the present run and returns its exit code; after
// the last run it returns that one's at once.
func (c *Container) Wait(ctx context.Context) (int, error) {
	// Opened before the end, as it may go away with the container.
	lock, err := c.openLock()
	if err != nil {
		return 0, err
	}
	if err := c.waitProcess(ctx); err != nil {
		if lock != nil {
			lock.Close()
		}
		return 0, err
	}
	// Whoever waited for the process now keeps its exit code, and then lets go
	// of the lock.
	if lock == nil { // it was just about to start
		if lock, err = c.openLock(); err != nil {
			return 0, err
		}
	}
	if lock != nil {
		code, left, err := waitUnlocked(ctx, lock)
		if left || err != nil {
			return code, err
		}
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

// waitProcess waits for the end of the first process, if there is one.
func (c *Container) waitProcess(ctx context.Context) error {
	fd, _, err := c.pidfd()
	if errors.Is(err, ErrNotRunning) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return waitPidfd(ctx, fd)
}

// waitPidfd waits until the process has ended.
func waitPidfd(ctx context.Context, fd int) error {
	_, err := pollAny(ctx, fd)
	return err
}

// pollAny waits until one of the descriptors can be read, and says which.
func pollAny(ctx context.Context, fds ...int) ([]bool, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, err
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
	set := []unix.PollFd{{Fd: int32(wake), Events: unix.POLLIN}}
	for _, fd := range fds {
		set = append(set, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	for {
		n, err := unix.Poll(set, -1)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, err
		case set[0].Revents != 0 && n == 1:
			return nil, ctx.Err()
		}
		ready := make([]bool, len(fds))
		for i := range fds {
			ready[i] = set[i+1].Revents != 0
		}
		return ready, nil
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
