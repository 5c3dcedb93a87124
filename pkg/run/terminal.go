package run

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// TerminalSize is the size of the terminal f, nil if it is none.
func TerminalSize(f *os.File) *specs.Box {
	w, h, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return nil
	}
	return &specs.Box{Width: uint(w), Height: uint(h)}
}

// ForwardSignals passes the signals that this process receives on to the
// program, until stop is called.
func (p *Process) ForwardSignals() (stop func()) {
	signals := make(chan os.Signal, 16)
	all := []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGCONT}
	signal.Notify(signals, slices.DeleteFunc(all, signal.Ignored)...) // nohup(1) means that it never gets here
	var wg sync.WaitGroup
	wg.Go(func() {
		for s := range signals {
			_ = p.Signal(s.(syscall.Signal)) // it may just have ended
		}
	})
	return func() {
		signal.Stop(signals)
		close(signals)
		wg.Wait()
	}
}

// Relay connects a program's terminal with the caller's: in is put into raw
// mode, if it is a terminal, and its size is followed. In may be nil. The
// function that it returns is to be called instead of Wait; it waits, drains the
// output and restores in.
func (p *Process) Relay(in, out *os.File) (wait func() (int, error), err error) {
	restore := func() error { return nil }
	if in != nil && term.IsTerminal(int(in.Fd())) {
		old, err := term.MakeRaw(int(in.Fd()))
		if err != nil {
			return nil, err
		}
		restore = func() error { return term.Restore(int(in.Fd()), old) }
	}
	ctx, cancel := context.WithCancel(context.Background())
	var input, output sync.WaitGroup
	if in != nil {
		input.Go(func() { copyInput(ctx, p.Terminal, in) })
	}
	// Ends with EIO when the last program has let go of the terminal.
	output.Go(func() { _, _ = io.Copy(out, p.Terminal) })
	stopResize := p.followSize(out)
	p.beforeEnd = func() {
		// A program that was left behind in the background may hold it open.
		_ = p.Terminal.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		output.Wait()
		cancel()
		input.Wait()
		stopResize()
	}
	return func() (int, error) {
		code, err := p.Wait()
		return code, errors.Join(err, restore())
	}, nil
}

// copyInput copies until ctx ends, without being stuck in a read.
func copyInput(ctx context.Context, to io.Writer, from *os.File) {
	buf := make([]byte, 4096)
	for {
		if _, err := pollAny(ctx, int(from.Fd())); err != nil {
			return
		}
		n, err := unix.Read(int(from.Fd()), buf)
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				return
			}
		}
		if n <= 0 || err != nil {
			// The end of the input, in the way of terminals.
			_, _ = to.Write([]byte{4})
			return
		}
	}
}

// followSize gives the program's terminal the size of tty, now and whenever that
// changes.
func (p *Process) followSize(tty *os.File) (stop func()) {
	resize := func() {
		if ws, err := unix.IoctlGetWinsize(int(tty.Fd()), unix.TIOCGWINSZ); err == nil {
			_ = p.resize(ws)
		}
	}
	resize()
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	var wg sync.WaitGroup
	wg.Go(func() {
		for range changed {
			resize()
		}
	})
	return func() {
		signal.Stop(changed)
		close(changed)
		wg.Wait()
	}
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
