package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"peel/pkg/run"
)

// containerCommands are the verbs about containers.
func containerCommands(a *app) []*cobra.Command {
	verbs := []*cobra.Command{
		newExecCommand(a), newAttachCommand(a), newPsCommand(a), newLogsCommand(a), newStartCommand(a), newStopCommand(a), newRestartCommand(a),
		newKillCommand(a), newWaitCommand(a), newRmCommand(a), newRenameCommand(a), newInspectCommand(a), newVolumeCommand(a),
		newTopCommand(a), newStatsCommand(a), newPortCommand(a), newDiffCommand(a), newCpCommand(a),
	}
	for _, verb := range verbs {
		managing(verb)
	}
	return append(verbs, newRunCommand(a))
}

// toEach makes cmd do something to each container that it is given. When it is
// done, the name is printed as it was typed.
func (a *app) toEach(cmd *cobra.Command, do func(context.Context, *run.Container) error) *cobra.Command {
	cmd.Args = cobra.MinimumNArgs(1)
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		return a.each(names, func(name string, c *run.Container) error {
			if err := do(cmd.Context(), c); err != nil {
				return err
			}
			_, err := fmt.Fprintln(a.stdout, name)
			return err
		})
	}
	return cmd
}

func newStartCommand(a *app) *cobra.Command {
	return a.toEach(&cobra.Command{
		Use:     "start CONTAINER...",
		Short:   "Start containers that have ended, in the background",
		Example: "  peel start web",
	}, func(_ context.Context, c *run.Container) error {
		err := c.StartDetached()
		if errors.Is(err, run.ErrRunning) {
			return nil // which is what was asked for
		}
		return err
	})
}

func newStopCommand(a *app) *cobra.Command {
	var grace graceFlag
	return grace.register(a.toEach(&cobra.Command{
		Use:     "stop [flags] CONTAINER...",
		Short:   "Ask containers to end, and kill those that do not",
		Example: "  peel stop web\n  peel stop -t 60 db",
	}, grace.stop))
}

func newRestartCommand(a *app) *cobra.Command {
	var grace graceFlag
	return grace.register(a.toEach(&cobra.Command{
		Use:     "restart [flags] CONTAINER...",
		Short:   "Stop containers and start them again",
		Example: "  peel restart web",
	}, func(ctx context.Context, c *run.Container) error {
		if err := grace.stop(ctx, c); err != nil {
			return err
		}
		return c.StartDetached()
	}))
}

// graceFlag is how long a container may take to end by itself.
type graceFlag struct {
	flag    *pflag.Flag
	seconds int
}

func (f *graceFlag) register(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().IntVarP(&f.seconds, "time", "t", 0, "`SECONDS` until it is killed; -1 is never (default: its --stop-timeout, or 10)")
	f.flag = cmd.Flags().Lookup("time")
	return cmd
}

func (f *graceFlag) stop(ctx context.Context, c *run.Container) error {
	grace := c.Grace()
	if f.flag.Changed {
		grace = time.Duration(f.seconds) * time.Second
	}
	return c.Stop(ctx, grace)
}

func newKillCommand(a *app) *cobra.Command {
	signal := signalFlag{word: "KILL", signal: syscall.SIGKILL}
	cmd := a.toEach(&cobra.Command{
		Use:     "kill [flags] CONTAINER...",
		Short:   "Send a signal to containers",
		Example: "  peel kill web\n  peel kill -s HUP web",
	}, func(_ context.Context, c *run.Container) error { return c.Kill(signal.signal) })
	cmd.Flags().VarP(&signal, "signal", "s", "`SIGNAL` to send, a name or a number")
	return cmd
}

// signalFlag is a flag that names a signal.
type signalFlag struct {
	word   string
	signal syscall.Signal
}

func (f *signalFlag) String() string { return f.word }
func (f *signalFlag) Type() string   { return "signal" }

func (f *signalFlag) Set(word string) (err error) {
	f.word = word
	f.signal, err = run.ParseSignal(word)
	return err
}

func newRmCommand(a *app) *cobra.Command {
	var force, volumes bool
	cmd := a.toEach(&cobra.Command{
		Use:     "rm [flags] CONTAINER...",
		Short:   "Remove containers and all that they changed",
		Example: "  peel rm web\n  peel rm -f web db",
	}, func(ctx context.Context, c *run.Container) error {
		err := c.Remove(ctx, force)
		if err == nil && volumes {
			err = c.RemoveVolumes()
		}
		return err
	})
	cmd.Flags().BoolVarP(&force, "force", "f", false, "kill those that run")
	cmd.Flags().BoolVarP(&volumes, "volumes", "v", false, "remove the volumes too that were made for them")
	return cmd
}

func newRenameCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "rename CONTAINER NAME",
		Short:   "Give a container another name",
		Example: "  peel rename web old-web",
		Args:    cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := a.container(args[0])
			if err != nil {
				return err
			}
			return c.Rename(args[1])
		},
	}
}

func newWaitCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "wait CONTAINER...",
		Short:   "Wait until containers end and print their exit codes",
		Example: "  peel wait job",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(args, func(_ string, c *run.Container) error {
				code, err := c.Wait(cmd.Context())
				if err == nil {
					_, err = fmt.Fprintln(a.stdout, code)
				}
				return err
			})
		},
	}
}
