//go:build !man

// Command peel pulls OCI images from registries and unpacks them into
// directories, without a daemon.
package main

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"peel/pkg/run"
)

func main() {
	run.Dispatch(findPrepared) // a child of peel's own plays its part and does not return
	os.Exit(peel(os.Args))
}

// peel is the command as a function of its command line; it returns the exit code.
func peel(args []string) int {
	ctx, interrupt := context.WithCancelCause(context.Background())
	defer interrupt(nil)
	a := &app{stdout: os.Stdout, stderr: os.Stderr, mapped: args[0] == mappedName}
	if a.mapped {
		go listen(interrupt)
	} else {
		signals := make(chan os.Signal, 2)
		// Not those that the caller has peel ignore, as nohup(1) does.
		signal.Notify(signals, slices.DeleteFunc([]os.Signal{syscall.SIGTERM, os.Interrupt, syscall.SIGHUP}, signal.Ignored)...)
		go func() {
			sig := <-signals
			interrupt(interruptedError{sig.(syscall.Signal)})
			signal.Stop(signals) // a second one ends peel where it stands
		}()
	}
	cmd := newRootCommand(a)
	cmd.SetArgs(args[1:])
	err := cmd.ExecuteContext(ctx)
	return a.exit(ctx, err)
}
