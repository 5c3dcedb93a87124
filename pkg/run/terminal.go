package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Console is the caller's side of a program's streams.
type Console struct {
	// In is nil where nobody types.
	In, Out, Err *os.File
	// DetachKeys, typed one after the other, leave the program to itself; empty:
	// nothing does.
	DetachKeys []byte
}

// ErrDetached says that the detach keys were typed: the program runs on.
var ErrDetached = errors.New("detached")

// DefaultDetachKeys is docker's way to leave a program.
const DefaultDetachKeys = "ctrl-p,ctrl-q"

// ParseDetachKeys reads docker's form of keys: single characters and
// ctrl-LETTER, with commas between them. Empty is DefaultDetachKeys.
func ParseDetachKeys(word string) ([]byte, error) {
	if word == "" {
		word = DefaultDetachKeys
	}
	var keys []byte
	for key := range strings.SplitSeq(word, ",") {
		letter, ctrl := strings.CutPrefix(strings.ToLower(key), "ctrl-")
		switch {
		case len(key) == 1:
			keys = append(keys, key[0])
		case ctrl && len(letter) == 1 && (letter[0] >= 'a' && letter[0] <= 'z' || strings.Contains("@[\\]^_", letter)):
			keys = append(keys, letter[0]&0x1f)
		default:
			return nil, fmt.Errorf("detach keys %q: want characters or ctrl-LETTER, with commas between them", word)
		}
	}
	return keys, nil
}

// TerminalSize is the size of the terminal f, nil if it is none.
func TerminalSize(f *os.File) *specs.Box {
	w, h, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return nil
	}
	return &specs.Box{Width: uint(w), Height: uint(h)}
}

// ForwardSignals passes the signals that this process receives on to the function
// given, until stop is called.
func ForwardSignals(to func(syscall.Signal) error) (stop func()) {
	signals := make(chan os.Signal, 16)
	all := []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGCONT}
	signal.Notify(signals, slices.DeleteFunc(all, signal.Ignored)...) // nohup(1) means that it never gets here
	var wg sync.WaitGroup
	wg.Go(func() {
		for s := range signals {
			_ = to(s.(syscall.Signal)) // the program may just have ended
		}
	})
	return func() {
		signal.Stop(signals)
		close(signals)
		wg.Wait()
	}
}

// raw puts the console's input into raw mode, if it is a terminal.
func (c *Console) raw() (restore func() error, err error) {
	if c.In == nil || !term.IsTerminal(int(c.In.Fd())) {
		return func() error { return nil }, nil
	}
	old, err := term.MakeRaw(int(c.In.Fd()))
	if err != nil {
		return nil, err
	}
	return func() error { return term.Restore(int(c.In.Fd()), old) }, nil
}

// copyInput sends what is typed until ctx ends, without being stuck in a read. It
// returns ErrDetached after the detach keys, and nil at the end of the input.
func (c *Console) copyInput(ctx context.Context, send func([]byte) error) error {
	keys := detacher{keys: c.DetachKeys}
	buf := make([]byte, 4096)
	for {
		if _, err := pollAny(ctx, int(c.In.Fd())); err != nil {
			return err
		}
		n, err := unix.Read(int(c.In.Fd()), buf)
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if n > 0 {
			typed, detached := keys.feed(buf[:n])
			if len(typed) > 0 {
				if err := send(typed); err != nil {
					return err
				}
			}
			if detached {
				return ErrDetached
			}
		}
		if n <= 0 || err != nil {
			return nil
		}
	}
}

// detacher looks for the detach keys in what is typed. The beginning of them is
// held back until it is known what becomes of it.
type detacher struct {
	keys []byte
	held int // how many of the keys were typed last
}

// feed returns what of the input is the program's, up to the detach keys. It is
// good until the next feed.
func (d *detacher) feed(typed []byte) (out []byte, detached bool) {
	if len(d.keys) == 0 {
		return typed, false
	}
	for _, b := range typed {
		seen := append(slices.Clone(d.keys[:d.held]), b)
		// What can still become the keys is the longest end of it that they begin
		// with.
		drop := 0
		for !bytes.HasPrefix(d.keys, seen[drop:]) {
			drop++
		}
		out = append(out, seen[:drop]...)
		if d.held = len(seen) - drop; d.held == len(d.keys) {
			d.held = 0
			return out, true
		}
	}
	return out, false
}

// followSize tells the size of the terminal tty, now and whenever that changes.
func followSize(tty *os.File, tell func(*unix.Winsize)) (stop func()) {
	resize := func() {
		if ws, err := unix.IoctlGetWinsize(int(tty.Fd()), unix.TIOCGWINSZ); err == nil {
			tell(ws)
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
