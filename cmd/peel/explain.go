package main

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"peel/pkg/explain"
)

func newExplainCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "explain [flags] PID",
		Short: "Tell what confines a process",
		Long: `Tell what confines a process, of whatever origin: which namespaces are its own,
whose rights its users have outside, what of root's powers it has, which system
calls are filtered, how much it may use, and what its files are made of.

A container is no more than such a process. All is read from outside; nothing
of the process is entered, opened or run.`,
		Example: `  peel explain $$
  peel explain $(pgrep -o nginx)
  peel explain --json 4711 | jq .namespaces`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.explain(cmd.Context(), args[0], asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	return cmd
}

func (a *app) explain(ctx context.Context, process string, asJSON bool) error {
	pid, err := strconv.ParseUint(process, 10, 31)
	if err != nil || pid == 0 {
		return usageError{nil, fmt.Errorf("%q is no process number", process)}
	}
	r, err := explain.Process(ctx, os.DirFS("/"), int(pid))
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(a.stdout, r, "  ")
	}
	return writeReport(a.stdout, r)
}
