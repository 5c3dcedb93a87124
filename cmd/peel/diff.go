package main

import (
	"bytes"
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

func newDiffCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "diff CONTAINER",
		Short: "List what a container has changed of its image",
		Long: `List what a container has changed of its image: A for files and directories that
it has added, C for those that it has changed, D for those that it has deleted.`,
		Example: `  peel diff web
  peel diff web | grep ^A`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.diff(cmd.Context(), args[0]) },
	}
}

func (a *app) diff(ctx context.Context, name string) error {
	c, err := a.container(name)
	if err != nil {
		return err
	}
	list, err := c.Changes(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	var out bytes.Buffer
	for _, change := range list {
		fmt.Fprintf(&out, "%c %s\n", change.Kind, printable(change.Path))
	}
	_, err = out.WriteTo(a.stdout)
	return err
}
