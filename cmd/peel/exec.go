package main

import (
	"fmt"
	"os"
	"path"

	"github.com/spf13/cobra"

	"peel/pkg/run"
)

func newExecCommand(a *app) *cobra.Command {
	var f streamFlags
	var o run.ExecOptions
	cmd := &cobra.Command{
		Use:   "exec [flags] CONTAINER COMMAND [ARG...]",
		Short: "Run a command in a running container",
		Long: `Run a command in a running container, in all its namespaces and cgroups and with
no more rights than it has itself. The exit code is the command's.`,
		Example: `  peel exec -it web bash
  peel exec -u www-data web id
  peel exec web nginx -t`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Args = args[1:]
			return a.exec(args[0], o, f)
		},
	}
	flags := cmd.Flags()
	flags.SetInterspersed(false) // what follows CONTAINER is the command's
	flags.BoolVarP(&f.detach, "detach", "d", false, "do not wait for the command")
	flags.BoolVarP(&f.interactive, "interactive", "i", false, "give the command this input")
	flags.BoolVarP(&f.tty, "tty", "t", false, "give the command a terminal")
	flags.StringArrayVarP(&o.Env, "env", "e", nil, "set a variable, `NAME=VALUE`; NAME alone passes on peel's own")
	flags.StringVarP(&o.Cwd, "workdir", "w", "", "working `DIR`")
	f.keys.register(cmd)
	flags.StringVarP(&o.User, "user", "u", "", "`USER[:GROUP]` to run as, names or ids")
	return cmd
}

func (a *app) exec(name string, o run.ExecOptions, f streamFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	if o.Cwd != "" && !path.IsAbs(o.Cwd) {
		return usageError{nil, fmt.Errorf("working directory %q is not absolute", o.Cwd)}
	}
	var err error
	if o.Env, err = environment(nil, o.Env); err != nil {
		return usageError{nil, err}
	}
	c, err := a.container(name)
	if err != nil {
		return err
	}
	var streams run.Streams
	if !f.detach {
		var relayed func()
		if streams, relayed, err = f.streams(); err != nil {
			return err
		}
		defer relayed()
	}
	if o.Terminal = f.tty; o.Terminal {
		o.ConsoleSize = run.TerminalSize(os.Stdout)
	}
	p, err := c.Exec(o, streams)
	if err != nil {
		return err
	}
	if f.detach {
		return p.Leave()
	}
	return exitWith(f.follow(p))
}
