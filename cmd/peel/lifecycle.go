package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"peel/pkg/run"
)

// containerCommands are the verbs about containers.
func containerCommands(a *app) []*cobra.Command {
	return []*cobra.Command{
		newRunCommand(a), newExecCommand(a), newPsCommand(a), newLogsCommand(a), newStartCommand(a), newStopCommand(a), newRestartCommand(a),
		newKillCommand(a), newWaitCommand(a), newRmCommand(a), newInspectCommand(a),
	}
}

func newStartCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "start CONTAINER...",
		Short:   "Start containers that have ended, in the background",
		Example: "  peel start web",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.each(args, func(c *run.Container) error { return c.StartDetached() })
		},
	}
}

// graceFlag is how long a container may take to end by itself.
func graceFlag(cmd *cobra.Command, seconds *int) {
	cmd.Flags().IntVarP(seconds, "time", "t", 10, "`SECONDS` until it is killed")
}

func newStopCommand(a *app) *cobra.Command {
	var seconds int
	cmd := &cobra.Command{
		Use:     "stop [flags] CONTAINER...",
		Short:   "Ask containers to end, and kill those that do not",
		Example: "  peel stop web\n  peel stop -t 60 db",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(args, func(c *run.Container) error { return stop(cmd.Context(), c, seconds) })
		},
	}
	graceFlag(cmd, &seconds)
	return cmd
}

func stop(ctx context.Context, c *run.Container, seconds int) error {
	return c.Stop(ctx, time.Duration(seconds)*time.Second)
}

func newRestartCommand(a *app) *cobra.Command {
	var seconds int
	cmd := &cobra.Command{
		Use:     "restart [flags] CONTAINER...",
		Short:   "Stop containers and start them again",
		Example: "  peel restart web",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(args, func(c *run.Container) error {
				if err := stop(cmd.Context(), c, seconds); err != nil {
					return err
				}
				return c.StartDetached()
			})
		},
	}
	graceFlag(cmd, &seconds)
	return cmd
}

func newKillCommand(a *app) *cobra.Command {
	var signal string
	cmd := &cobra.Command{
		Use:     "kill [flags] CONTAINER...",
		Short:   "Send a signal to containers",
		Example: "  peel kill web\n  peel kill -s HUP web",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			sig, err := run.ParseSignal(signal)
			if err != nil {
				return usageError{nil, err}
			}
			return a.each(args, func(c *run.Container) error { return c.Kill(sig) })
		},
	}
	cmd.Flags().StringVarP(&signal, "signal", "s", "KILL", "`SIGNAL` to send, a name or a number")
	return cmd
}

func newWaitCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "wait CONTAINER...",
		Short:   "Wait until containers end and print their exit codes",
		Example: "  peel wait job",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, name := range args {
				c, err := a.container(name)
				if err != nil {
					return err
				}
				code, err := c.Wait(cmd.Context())
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				fmt.Fprintln(a.stdout, code)
			}
			return nil
		},
	}
}

func newRmCommand(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:     "rm [flags] CONTAINER...",
		Short:   "Remove containers and all that they changed",
		Example: "  peel rm web\n  peel rm -f web db",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(args, func(c *run.Container) error { return c.Remove(cmd.Context(), force) })
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "kill those that run")
	return cmd
}

func newInspectCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "inspect CONTAINER...",
		Short:   "Print what is known of containers, as JSON",
		Example: "  peel inspect web | jq '.[0].status.Pid'",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			type container struct {
				run.Record
				Status run.Status `json:"status"`
				Config any        `json:"config"`
			}
			var all []container
			for _, name := range args {
				c, err := a.container(name)
				if err != nil {
					return err
				}
				s, err := c.Status()
				if err != nil {
					return err
				}
				spec, err := c.Spec()
				if err != nil {
					return err
				}
				all = append(all, container{c.Record, s, spec})
			}
			enc := json.NewEncoder(a.stdout)
			enc.SetEscapeHTML(false)
			enc.SetIndent("", "  ")
			return enc.Encode(all)
		},
	}
}
