package run

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Relay connects a program's terminal with the caller's: its input is put into raw
// mode, if it is a terminal, and its size is followed. The function that it
// returns is to be called instead of Wait; it waits, drains the output and
// restores the terminal. ErrDetached says that the program was left to itself,
// which only one that Exec has started can be.
func (p *Process) Relay(c Console) (wait func() (int, error), err error) {
	restore, err := c.raw()
	if err != nil {
		return nil, err
	}
	if !p.child.CanLeave() {
		c.DetachKeys = nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	left, leave := context.WithCancel(context.Background())
	var input, output sync.WaitGroup
	if c.In != nil {
		input.Go(func() {
			switch err := c.copyInput(ctx, p.enter); {
			case errors.Is(err, ErrDetached):
				leave()
			case err == nil:
				_ = p.enter([]byte{endOfInput})
			}
		})
	}
	// Ends with EIO when the last program has let go of the terminal.
	output.Go(func() { _, _ = io.Copy(c.Out, p.Terminal) })
	stopResize := followSize(c.Out, func(ws *unix.Winsize) { _ = p.resize(ws) })
	stop := func(patience time.Duration) {
		_ = p.Terminal.SetReadDeadline(time.Now().Add(patience))
		output.Wait()
		cancel()
		input.Wait()
		stopResize()
	}
	// A program that was left behind in the background may hold it open.
	p.beforeEnd = func() { stop(200 * time.Millisecond) }
	return func() (int, error) {
		defer leave()
		if waitPidfd(left, int(p.child.PidFD.Fd())) != nil && left.Err() != nil {
			stop(0)
			return 0, errors.Join(p.Leave(), ErrDetached, restore())
		}
		code, err := p.Wait()
		return code, errors.Join(err, restore())
	}, nil
}

// Leave leaves a program that Exec has started to itself, in place of Wait. What it
// prints on its terminal is dropped from now on.
func (p *Process) Leave() error {
	defer p.child.Close()
	return p.child.Leave()
}

// endOfInput is how terminals say it.
const endOfInput = 4

func (p *Process) enter(b []byte) error {
	_, err := p.Terminal.Write(b)
	return err
}

func (p *Process) resize(ws *unix.Winsize) error {
	raw, err := p.Terminal.SyscallConn()
	if err != nil {
		return err
	}
	var ierr error
	err = raw.Control(func(fd uintptr) { ierr = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, ws) })
	return errors.Join(err, ierr)
}
