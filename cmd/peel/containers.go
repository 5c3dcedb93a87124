package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"

	"peel/pkg/run"
)

// openRuntime opens the place where containers live: beside the images.
func (a *app) openRuntime() (*run.Runtime, error) {
	root, err := a.storeRoot()
	if err != nil {
		return nil, err
	}
	return run.Open(run.Options{Data: root, OpenImage: a.openImage})
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
// docker does. For each that it was done to, the name is printed as it was typed.
func (a *app) each(names []string, do func(*run.Container) error) error {
	rt, err := a.openRuntime()
	if err != nil {
		return err
	}
	var failed []string
	var last error
	for _, name := range names {
		c, err := rt.Get(name)
		if err == nil {
			err = do(c)
		}
		if err != nil {
			failed, last = append(failed, fmt.Sprintf("%s: %v", name, err)), err
			continue
		}
		fmt.Fprintln(a.stdout, name)
	}
	if len(failed) > 1 {
		return fmt.Errorf("%s", strings.Join(failed, "; "))
	}
	if last != nil {
		return fmt.Errorf("%s: %w", names[len(names)-1], last)
	}
	return nil
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
}

// check refuses a terminal that is to be typed at where nobody types.
func (f streamFlags) check() error {
	if f.tty && f.interactive && !f.detach && !term.IsTerminal(int(os.Stdin.Fd())) {
		return usageError{nil, fmt.Errorf("the input is not a terminal: leave out -t")}
	}
	return nil
}

// streams are what a program without a terminal of its own is given.
func (f streamFlags) streams() run.Streams {
	s := run.Streams{Out: os.Stdout, Err: os.Stderr}
	if f.interactive {
		s.In = os.Stdin
	}
	return s
}

// follow stays with a program to its end, passing signals and typed keys on.
func (f streamFlags) follow(p *run.Process) (int, error) {
	stop := p.ForwardSignals()
	defer stop()
	if p.Terminal == nil {
		return p.Wait()
	}
	var in *os.File
	if f.interactive {
		in = os.Stdin
	}
	wait, err := p.Relay(in, os.Stdout)
	if err != nil {
		return 0, err
	}
	return wait()
}
