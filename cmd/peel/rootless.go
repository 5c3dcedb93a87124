package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"peel/internal/userns"
)

// A user owns files under one id, and under some more that the administrator has
// given him: but only as root of a user namespace. Unpacking is done by a second peel in one:
// the same program with the same command line, told apart by its first word.
const mappedName = "peel-in-user-namespace"

// How a user unpacks.
const (
	rootlessAuto   = "auto"
	rootlessMap    = "map"    // in a user namespace, with true owners
	rootlessRecord = "record" // all files are his, and say what they stand for
)

// subordinate is the ids that this user has beside his own, nil if he has none, needs
// none, or they are in use already.
func (a *app) subordinate() *userns.Maps {
	if a.mapped || os.Geteuid() == 0 {
		return nil
	}
	ids := userns.Own()
	if !ids.NeedsHelpers() {
		return nil
	}
	return &ids
}

// unpackMapped runs this command once more in a user namespace, if that is what how
// asks for and can be had. done: it has run, and err is what it came to.
func (a *app) unpackMapped(ctx context.Context, how string) (done bool, err error) {
	if how != rootlessAuto && how != rootlessMap && how != rootlessRecord {
		return true, usageError{nil, fmt.Errorf("--rootless %q: want auto, map or record", how)}
	}
	ids := a.subordinate()
	switch {
	case a.mapped || os.Geteuid() == 0 || how == rootlessRecord, ids == nil && how == rootlessAuto:
		return false, nil
	case ids == nil:
		return true, noSubordinateError{}
	}
	err = a.runMapped(ctx, *ids, os.Args[1:])
	var start startError
	if how == rootlessAuto && errors.As(err, &start) {
		fmt.Fprintf(a.stderr, "warning: %s: owners are recorded instead\n", oneLine(err.Error()))
		return false, nil
	}
	return true, err
}

// noSubordinateError: --rootless=map by a user who has no ids for it.
type noSubordinateError struct{}

func (noSubordinateError) Error() string { return "this user has no subordinate ids" }

// startError: the namespace could not be had, and nothing has been done.
type startError struct{ error }

func (e startError) Unwrap() error { return e.error }

// relayFD is where a mapped peel hears of the signals that its parent gets, one byte
// each. A signal from the terminal reaches both, and must not count twice. When the
// parent is gone, however it went, the pipe ends.
const relayFD = 3

// runMapped runs a command line of peel's in a user namespace with these ids, and
// ends as it does.
func (a *app) runMapped(ctx context.Context, ids userns.Maps, args []string) error {
	env := os.Environ()
	if a.root == "" && os.Getenv("PEEL_ROOT") == "" {
		root, err := a.storeRoot() // the user's, not root's
		if err != nil {
			return err
		}
		// One that is there is empty, and would come first.
		env = append(slices.DeleteFunc(env, func(v string) bool { return strings.HasPrefix(v, "PEEL_ROOT=") }), "PEEL_ROOT="+root)
	}
	theirs, ours, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ours.Close()
	child, err := ids.Start(append([]string{mappedName}, args...), env, []*os.File{os.Stdin, os.Stdout, os.Stderr, theirs})
	theirs.Close()
	if err != nil {
		return startError{err}
	}
	defer context.AfterFunc(ctx, func() {
		sig := syscall.SIGTERM
		if i := (interruptedError{}); errors.As(context.Cause(ctx), &i) {
			sig = i.signal
		}
		_, _ = ours.Write([]byte{byte(sig)}) // a child that is gone needs none
	})()
	status, err := child.Wait()
	switch {
	case err != nil:
		return err
	case status.Signaled():
		return fmt.Errorf("peel in its user namespace was ended by a signal: %s", status.Signal())
	case status.ExitStatus() != 0:
		return exitCode(status.ExitStatus())
	}
	return nil
}

// listen passes on what a mapped peel's parent says. It returns when the parent has
// ended; if that was after a signal, peel ends where it stands.
func listen(interrupt context.CancelCauseFunc) {
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	unix.CloseOnExec(relayFD)
	pipe := os.NewFile(relayFD, "parent")
	heard := syscall.Signal(0)
	for b := make([]byte, 1); ; {
		if n, _ := pipe.Read(b); n == 0 {
			break
		}
		heard = syscall.Signal(b[0])
		interrupt(interruptedError{heard})
	}
	if heard != 0 {
		os.Exit(exitSignal + int(heard))
	}
	interrupt(interruptedError{syscall.SIGKILL})
}
