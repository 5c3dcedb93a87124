// Command peel pulls OCI images from registries and unpacks them into
// directories, without a daemon.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"peel/pkg/run"
)

func main() {
	run.Dispatch() // a child of peel's own plays its part and does not return
	os.Exit(peel(os.Args[1:]))
}

// peel is the command as a function of its arguments; it returns the exit code.
func peel(args []string) int {
	ctx, interrupt := context.WithCancelCause(context.Background())
	defer interrupt(nil)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		sig := <-signals
		interrupt(interruptedError{sig.(syscall.Signal)})
		signal.Stop(signals) // a second one ends peel where it stands
	}()

	a := &app{stdout: os.Stdout, stderr: os.Stderr}
	cmd := newRootCommand(a)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	return a.exit(ctx, err)
}
