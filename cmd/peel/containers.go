package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"peel/pkg/run"
)

// openRuntime opens the place where containers live: beside the images.
func (a *app) openRuntime() (*run.Runtime, error) {
	root, err := a.storeRoot()
	if err != nil {
		return nil, err
	}
	find := func(i run.Image) (run.Source, error) { return findPrepared(root, i) }
	return run.Open(run.Options{Data: root, FindImage: find})
}

// container finds one container by its name or the beginning of its id.
func (a *app) container(name string) (*run.Container, error) {
	rt, err := a.openRuntime()
	if err != nil {
		return nil, err
	}
	return rt.Get(name)
}

// each does something to several containers and goes on after a failure, as
// docker does.
func (a *app) each(names []string, do func(name string, c *run.Container) error) error {
	rt, err := a.openRuntime()
	if err != nil {
		return err
	}
	var failed []error
	for _, name := range names {
		c, err := rt.Get(name)
		if err == nil {
			if err = do(name, c); err != nil {
				err = fmt.Errorf("%s: %w", name, err) // Get has named it
			}
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// exitCode ends peel with the code of a program that it has run, and without a
// word.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

func exitWith(code int, err error) error {
	if err != nil {
		return err
	}
	if code != 0 {
		return exitCode(code)
	}
	return nil
}

// streamFlags are the flags of the verbs that start a program.
type streamFlags struct {
	detach, interactive, tty bool
	keys                     keysFlag
}

// keysFlag is the flag for the keys that leave a program to itself.
type keysFlag struct {
	word string
	keys []byte
}

func (f *keysFlag) String() string { return f.word }
func (f *keysFlag) Type() string   { return "keys" }

func (f *keysFlag) Set(word string) (err error) {
	f.word = word
	f.keys, err = run.ParseDetachKeys(word)
	return err
}

func (f *keysFlag) register(cmd *cobra.Command) {
	_ = f.Set(run.DefaultDetachKeys) // which is well formed
	cmd.Flags().Var(f, "detach-keys", "`KEYS` that leave a command with a terminal to itself")
}

// check refuses a terminal that is to be typed at where nobody types.
func (f streamFlags) check() error {
	if f.tty && f.interactive && !f.detach && !term.IsTerminal(int(os.Stdin.Fd())) {
		return usageError{nil, errors.New("the input is not a terminal: leave out -t")}
	}
	return nil
}

// streams are what a program is given that has no terminal of its own. Files and
// pipes it gets as they are. A terminal it never gets: whoever has one open can
// read what is typed at it. It gets a pipe, and relayed copies what comes out,
// until the function that is returned is called.
func (f streamFlags) streams() (s run.Streams, relayed func(), err error) {
	var relays []*relay
	relayed = func() {
		for _, r := range relays {
			r.end()
		}
	}
	if f.tty {
		// It has a terminal of its own, and what is typed at this one is read by
		// one alone.
		return s, relayed, nil
	}
	for _, out := range []struct {
		to   **os.File
		file *os.File
	}{{&s.Out, os.Stdout}, {&s.Err, os.Stderr}} {
		if !term.IsTerminal(int(out.file.Fd())) {
			*out.to = out.file
			continue
		}
		r, err := newRelay(out.file)
		if err != nil {
			relayed()
			return s, nil, err
		}
		relays = append(relays, r)
		*out.to = r.w
	}
	if f.interactive {
		s.In = os.Stdin
		if term.IsTerminal(int(os.Stdin.Fd())) {
			r, w, err := os.Pipe()
			if err != nil {
				relayed()
				return s, nil, err
			}
			s.In = r
			go func() {
				// Ends with peel: a read from a terminal cannot be interrupted.
				_, _ = io.Copy(w, os.Stdin)
				w.Close()
			}()
		}
	}
	return s, relayed, nil
}

// relay copies what is written to w to a terminal.
type relay struct {
	r, w *os.File
	done chan struct{}
}

func newRelay(to *os.File) (*relay, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	l := &relay{r, w, make(chan struct{})}
	go func() {
		_, _ = io.Copy(to, r)
		close(l.done)
	}()
	return l, nil
}

// end waits for what is on its way. Whoever was left behind with the other end
// is not waited for.
func (l *relay) end() {
	l.w.Close()
	_ = l.r.SetReadDeadline(time.Now().Add(time.Second))
	<-l.done
	l.r.Close()
}

// console is this process's side of a program's streams.
func (f streamFlags) console() run.Console {
	c := run.Console{Out: os.Stdout, Err: os.Stderr, DetachKeys: f.keys.keys}
	if f.interactive {
		c.In = os.Stdin
	}
	return c
}

// follow stays with a program to its end, passing signals and typed keys on.
func (f streamFlags) follow(p *run.Process) (int, error) {
	defer run.ForwardSignals(p.Signal)()
	if p.Terminal == nil {
		return p.Wait()
	}
	wait, err := p.Relay(f.console())
	if err != nil {
		return 0, err
	}
	return detached(wait())
}

// attached stays with a container that runs under a monitor.
func (f streamFlags) attached(c *run.Attachment, passSignals bool) (int, error) {
	if passSignals {
		defer run.ForwardSignals(c.Signal)()
	}
	return detached(c.Relay(f.console()))
}

// detached is no failure. The cursor is left in the middle of a line, so
// something is said to it.
func detached(code int, err error) (int, error) {
	if errors.Is(err, run.ErrDetached) {
		fmt.Fprintln(os.Stderr, "read escape sequence")
		return 0, nil
	}
	return code, err
}
