package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func newAttachCommand(a *app) *cobra.Command {
	var noStdin, proxy bool
	var f streamFlags
	cmd := &cobra.Command{
		Use:   "attach [flags] CONTAINER",
		Short: "Join the input and output of a running container",
		Long: `Join the input and output of a container that runs in the background, or in
another terminal. What was printed before is in its logs. The exit code is the
container's. From a container with a terminal and an input (-it) ctrl-p ctrl-q
leads back out.`,
		Example: `  peel run -dit --name sh debian:12
  peel attach sh
  peel attach --no-stdin --sig-proxy=false web`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := a.container(args[0])
			if err != nil {
				return err
			}
			attachment, err := c.Attach()
			if err != nil {
				return err
			}
			f.interactive = c.OpenStdin && !noStdin
			f.tty = attachment.Terminal()
			if f.check() != nil {
				attachment.Close()
				return usageError{nil, errors.New("the container has a terminal and the input is none: use --no-stdin")}
			}
			return exitWith(f.attached(attachment, proxy))
		},
	}
	flags := cmd.Flags()
	f.keys.register(cmd)
	flags.BoolVar(&noStdin, "no-stdin", false, "do not type at the container")
	flags.BoolVar(&proxy, "sig-proxy", true, "pass signals on to the container")
	return cmd
}
