package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"peel/pkg/top"
)

func newTopCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "top CONTAINER [ps OPTIONS]",
		Short: "Show the processes of a running container",
		Long: `Show the processes of a running container, by their numbers on the host. Options
are those of ps that choose columns: -ef (the usual), aux, and -o LIST with
pid ppid pgid sid user uid group gid c %cpu %mem vsz rss tty stat s ni nlwp psr
stime start etime time comm args. Nothing is run for it, on neither side.`,
		Example: `  peel top web
  peel top web -o pid,user,rss,args`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.top(args[0], args[1:]) },
	}
	cmd.Flags().SetInterspersed(false) // what follows CONTAINER is ps's
	return cmd
}

func (a *app) top(name string, options []string) error {
	columns, err := top.Columns(options)
	if err != nil {
		return usageError{nil, err}
	}
	c, err := a.container(name)
	if err != nil {
		return err
	}
	pids, err := c.Pids()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	proc := os.DirFS("/proc")
	machine, err := top.Host(proc)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 3, ' ', 0)
	line := func(text func(top.Column) string) {
		var words []string
		for _, c := range columns {
			words = append(words, text(c))
		}
		fmt.Fprintln(w, strings.Join(words, "\t"))
	}
	line(func(c top.Column) string { return c.Heading })
	for _, pid := range pids {
		p, err := top.Read(proc, pid, machine)
		if errors.Is(err, top.ErrGone) {
			continue
		}
		if err != nil {
			return err
		}
		// Arguments are text of a stranger's.
		line(func(c top.Column) string { return printable(c.Text(p, machine)) })
	}
	return w.Flush()
}

func newPortCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "port CONTAINER [PORT[/PROTOCOL]]",
		Short: "List the ports of a container that the host publishes",
		Long: `List the ports of a container that the host publishes. There are none so far: a
container has a network of its own with nobody in it, or with --network host the
host's, where its ports are open as they are.`,
		Example: "  peel port web\n  peel port web 80/tcp",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			if _, err := a.container(args[0]); err != nil || len(args) < 2 {
				return err
			}
			port, protocol, given := strings.Cut(args[1], "/")
			if !given {
				protocol = "tcp"
			}
			return fmt.Errorf("no public port '%s/%s' published for %s", port, protocol, args[0])
		},
	}
}
