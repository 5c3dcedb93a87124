package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"unicode"

	"github.com/spf13/cobra"

	"peel/pkg/registry"
	"peel/pkg/run"
)

// Exit codes, as docker and podman use them; 128+n is the shell's word for death
// by signal n.
const (
	exitFailure = 125
	exitManage  = 1 // a verb about containers that are there failed
	exitUsage   = 2
	exitSignal  = 128
)

// usageError is a mistake in the command line.
type usageError struct {
	cmd *cobra.Command // nil where the message says it all
	err error
}

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// manageError is what went wrong with a verb about containers that are there. Of
// these only exec has a program whose exit code a failure could be taken for.
type manageError struct {
	err  error
	exec bool
}

func (e manageError) Error() string { return e.err.Error() }
func (e manageError) Unwrap() error { return e.err }

// managing makes a verb, and those below it, fail as docker's do that are about
// containers.
func managing(verb *cobra.Command) {
	for _, v := range verb.Commands() {
		managing(v)
	}
	do := verb.RunE
	if do == nil {
		return
	}
	verb.RunE = func(cmd *cobra.Command, args []string) error {
		if err := do(cmd, args); err != nil {
			return manageError{err, verb.Name() == "exec"}
		}
		return nil
	}
}

// interruptedError is the cause of a context that a signal has ended.
type interruptedError struct{ signal syscall.Signal }

func (e interruptedError) Error() string { return e.signal.String() }

// exit prints what went wrong, in one line and with a hint where there is a next
// step, and returns the exit code.
func (a *app) exit(ctx context.Context, err error) int {
	if err == nil {
		return 0
	}
	var code exitCode
	if errors.As(err, &code) {
		return int(code)
	}
	var interrupted interruptedError
	if errors.As(context.Cause(ctx), &interrupted) {
		fmt.Fprintln(a.stderr, "peel: interrupted")
		if a.resumable {
			fmt.Fprintln(a.stderr, "hint: run the same command again to go on where it stopped")
		}
		return exitSignal + int(interrupted.signal)
	}
	fmt.Fprintf(a.stderr, "peel: %s\n", oneLine(err.Error()))
	if hint := hintFor(err); hint != "" {
		fmt.Fprintf(a.stderr, "hint: %s\n", hint)
	}
	if isUsage(err) {
		return exitUsage
	}
	failed := run.ExitCode(err)
	var managed manageError
	if errors.As(err, &managed) && (!managed.exec || failed == exitFailure) {
		return exitManage
	}
	return failed
}

// isUsage tells a mistake in the command line from one that only the work showed.
func isUsage(err error) bool {
	var usage usageError
	var reference *registry.ReferenceError
	return errors.As(err, &usage) || errors.As(err, &reference)
}

// oneLine keeps joined errors on the line that scripts expect.
func oneLine(s string) string {
	return printable(strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' }), "; "))
}

// printable escapes what could move a terminal's cursor or reorder its line. Packages
// do so with what they quote; this is for what has slipped through.
func printable(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}
