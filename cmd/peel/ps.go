package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"peel/pkg/run"
)

func newPsCommand(a *app) *cobra.Command {
	var all, quiet, noTrunc bool
	cmd := &cobra.Command{
		Use:     "ps [flags]",
		Short:   "List containers",
		Example: "  peel ps\n  peel ps -aq | xargs peel rm",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			rt, err := a.openRuntime()
			if err != nil {
				return err
			}
			list, err := rt.List()
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(a.stdout, 0, 0, 3, ' ', 0)
			if !quiet {
				fmt.Fprintln(w, "CONTAINER ID\tIMAGE\tCOMMAND\tCREATED\tSTATUS\tPORTS\tNAMES")
			}
			for _, c := range list {
				s, err := c.Status()
				if errors.Is(err, run.ErrNotFound) {
					continue
				}
				if err != nil {
					return err
				}
				if !all && s.Phase != run.Running {
					continue
				}
				id, command := c.ID, strings.Join(c.Args, " ")
				if !noTrunc {
					id, command = id[:12], ellipsis(command, 20)
				}
				if quiet {
					fmt.Fprintln(w, id)
					continue
				}
				now := time.Now()
				// A command of the image's is text of a stranger's: quoted, it cannot
				// speak to the terminal.
				fmt.Fprintf(w, "%s\t%s\t%s\t%s ago\t%s\t\t%s\n", id, c.Image, strconv.Quote(command), units.HumanDuration(now.Sub(c.Created)), statusText(s, now), c.Name)
			}
			return w.Flush()
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&all, "all", "a", false, "also those that do not run")
	flags.BoolVarP(&quiet, "quiet", "q", false, "print ids only")
	flags.BoolVar(&noTrunc, "no-trunc", false, "print ids and commands in full")
	return cmd
}

func ellipsis(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}

// statusText says how a container does in docker's words.
func statusText(s run.Status, now time.Time) string {
	switch s.Phase {
	case run.Created:
		return "Created"
	case run.Running:
		up := "Up " + units.HumanDuration(now.Sub(s.Started))
		if s.Unattended {
			up += " (unattended)"
		}
		return up
	}
	when := s.Finished
	if when.IsZero() {
		when = s.Started
	}
	return fmt.Sprintf("Exited (%d) %s ago", s.Code, units.HumanDuration(now.Sub(when)))
}
