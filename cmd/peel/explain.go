package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"peel/pkg/explain"
	"peel/pkg/run"
)

func newExplainCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "explain [flags] PID|CONTAINER",
		Short: "Tell what confines a process",
		Long: `Tell what confines a process, of whatever origin: which namespaces are its own,
whose rights its users have outside, what of root's powers it has, which system
calls are filtered, how much it may use, and what its files are made of.

A container is no more than such a process: its first one. Of peel's own, the
system calls that are refused are named, too. All is read from outside; nothing
of the process is entered, opened or run.`,
		Example: `  peel explain $$
  peel explain web
  peel explain $(pgrep -o nginx)
  peel explain --json 4711 | jq .namespaces`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.explain(cmd.Context(), args[0], asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	return cmd
}

func (a *app) explain(ctx context.Context, process string, asJSON bool) error {
	pid, c, err := a.explained(process)
	if err != nil {
		return err
	}
	r, err := explain.Process(ctx, os.DirFS("/"), pid)
	if err != nil {
		return err
	}
	if c != nil && r.Seccomp.Mode == "filter" {
		if r.Seccomp.Refused, r.Seccomp.Conditional, err = c.RefusedCalls(); err != nil {
			return err
		}
	}
	if asJSON {
		return writeJSON(a.stdout, r, "  ")
	}
	return writeReport(a.stdout, r)
}

// explained is the process that a word names, and the container of peel's that it is
// in, if it is in one. A number is a process.
func (a *app) explained(word string) (pid int, c *run.Container, err error) {
	n, err := strconv.ParseUint(word, 10, 31)
	if err != nil {
		if c, err = a.container(word); err != nil {
			return 0, nil, err
		}
		s, err := c.Status()
		if err == nil && s.Phase != run.Running {
			err = fmt.Errorf("%s: %w", word, run.ErrNotRunning)
		}
		return s.Pid, c, err
	}
	if n == 0 {
		return 0, nil, usageError{nil, fmt.Errorf("%q is no process number", word)}
	}
	// Of a process that is not peel's it knows what everybody can see. Nor is a place
	// for containers made where there are none.
	root, err := a.storeRoot()
	if err == nil {
		_, err = os.Stat(filepath.Join(root, "containers"))
	}
	if err != nil {
		return int(n), nil, nil
	}
	rt, err := a.openRuntime()
	if err != nil {
		return int(n), nil, nil
	}
	all, _ := rt.List()
	for _, c := range all {
		if pids, err := c.Pids(); err == nil && slices.Contains(pids, int(n)) {
			return int(n), c, nil
		}
	}
	return int(n), nil, nil
}
