package main

import (
	"encoding/json"

	"github.com/spf13/cobra"

	"peel/pkg/run"
)

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
