package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"peel/pkg/run"
)

func newVolumeCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "volume",
		Short: "List, make and remove volumes",
		Long: `List, make and remove volumes: directories that outlive the containers they are
mounted in by 'peel run -v NAME:TARGET'.`,
		Example: "  peel volume create data\n  peel run --rm -v data:/var/lib/data debian:12 touch /var/lib/data/x\n  peel volume rm data",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	verb := func(use, short string, args cobra.PositionalArgs, do func(rt *run.Runtime, names []string) error) {
		cmd.AddCommand(&cobra.Command{Use: use, Short: short, Args: asUsage(args), RunE: func(_ *cobra.Command, names []string) error {
			rt, err := a.openRuntime()
			if err != nil {
				return err
			}
			return do(rt, names)
		}})
	}
	verb("ls", "List volumes and how many containers have them", cobra.NoArgs, func(rt *run.Runtime, _ []string) error { return a.listVolumes(rt) })
	verb("create [NAME]", "Make a volume and print its name", cobra.MaximumNArgs(1), func(rt *run.Runtime, names []string) error {
		v, err := rt.CreateVolume(append(names, "")[0])
		if err == nil {
			fmt.Fprintln(a.stdout, v.Name)
		}
		return err
	})
	verb("rm NAME...", "Remove volumes that no container has", cobra.MinimumNArgs(1), func(rt *run.Runtime, names []string) error {
		var failed []error
		for _, name := range names {
			if err := rt.RemoveVolume(name); err != nil {
				failed = append(failed, err)
				continue
			}
			fmt.Fprintln(a.stdout, name)
		}
		return errors.Join(failed...)
	})
	verb("inspect NAME...", "Print what is known of volumes, as JSON", cobra.MinimumNArgs(1), func(rt *run.Runtime, names []string) error {
		var all []run.Volume
		for _, name := range names {
			v, err := rt.Volume(name)
			if err != nil {
				return err
			}
			all = append(all, v)
		}
		enc := json.NewEncoder(a.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(all)
	})
	return cmd
}

func (a *app) listVolumes(rt *run.Runtime) error {
	all, usedBy, err := rt.Volumes()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tCONTAINERS\tDIRECTORY")
	for _, v := range all {
		fmt.Fprintf(w, "%s\t%d\t%s\n", v.Name, len(usedBy[v.Name]), v.Dir)
	}
	return w.Flush()
}
