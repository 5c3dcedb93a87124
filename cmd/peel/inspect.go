package main

import (
	"errors"
	"fmt"
	"text/template"

	"github.com/spf13/cobra"

	"peel/pkg/run"
	"peel/pkg/store"
)

func newInspectCommand(a *app) *cobra.Command {
	var kind, format string
	cmd := &cobra.Command{
		Use:   "inspect [flags] NAME...",
		Short: "Print what is known of containers or images, as JSON",
		Long: `Print what is known of containers or images as one JSON array, in docker's words.
Under "Spec" a container has the whole OCI runtime config that it is started with.`,
		Example: `  peel inspect web
  peel inspect -f '{{.State.Pid}}' web
  peel inspect -f '{{json .Config.Env}}' nginx:latest`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.inspect(args, kind, format) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&format, "format", "f", "", "print each by a Go `TEMPLATE`")
	flags.StringVar(&kind, "type", "", "look only for a `KIND` of thing: container or image")
	return cmd
}

func (a *app) inspect(names []string, kind, format string) error {
	if kind != "" && kind != "container" && kind != "image" {
		return usageError{nil, fmt.Errorf("--type %q: want container or image", kind)}
	}
	rt, err := a.openRuntime()
	if err != nil {
		return err
	}
	st, err := a.openStore()
	if err != nil {
		return err
	}
	defer st.Close()
	var all []any
	var failed []error
	for _, name := range names {
		v, err := inspectOne(rt, st, name, kind)
		if err == nil && format != "" {
			var t *template.Template
			if t, err = parseFormat(format, v); err != nil {
				return err
			}
			if err = t.Execute(a.stdout, v); err == nil {
				_, err = fmt.Fprintln(a.stdout)
			}
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		all = append(all, v)
	}
	if format == "" {
		failed = append(failed, writeJSON(a.stdout, append([]any{}, all...), "  "))
	}
	return errors.Join(failed...)
}

// inspectOne finds a container, or else an image.
func inspectOne(rt *run.Runtime, st *store.Store, name, kind string) (any, error) {
	if kind != "image" {
		c, err := rt.Get(name)
		if err == nil {
			return inspectContainer(c, st)
		}
		if kind == "container" || !errors.Is(err, run.ErrNotFound) {
			return nil, err
		}
	}
	img, err := findImage(st, name)
	var unknown unknownImageError
	switch {
	case err == nil:
		return inspectImage(st, img), nil
	case kind == "" && errors.As(err, &unknown):
		return nil, fmt.Errorf("%s: neither a container nor an image", name)
	}
	return nil, err
}
