package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"peel/pkg/registry"
	"peel/pkg/store"
)

func newImagesCommand(a *app) *cobra.Command {
	var quiet, noTrunc, digests bool
	cmd := &cobra.Command{
		Use:     "images [flags]",
		Short:   "List the images in the store",
		Long:    "List the images in the store. SIZE is what the image takes there, compressed; IMAGE ID is its config's digest.",
		Example: "  peel images\n  peel images -q --no-trunc",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			st, err := a.openStore()
			if err != nil {
				return err
			}
			defer st.Close()
			imgs, broken := st.Images()
			id := func(img *store.Image) string {
				if d := img.Manifest.Config.Digest; noTrunc {
					return d.String()
				} else {
					return short(d)
				}
			}
			var list bytes.Buffer
			if quiet {
				for _, img := range imgs {
					fmt.Fprintln(&list, id(img))
				}
				_, err := list.WriteTo(a.stdout)
				return errors.Join(err, broken)
			}
			w := tabwriter.NewWriter(&list, 0, 0, 3, ' ', 0)
			header := []string{"REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"}
			if digests {
				header = append(header[:2], append([]string{"DIGEST"}, header[2:]...)...)
			}
			fmt.Fprintln(w, strings.Join(header, "\t"))
			for _, img := range imgs {
				repository, tag := nameAndTag(img.Name)
				row := []string{repository, tag}
				if digests {
					row = append(row, img.Source.String())
				}
				row = append(row, id(img), created(img, time.Now()), units.HumanSizeWithPrecision(float64(img.Size()), 3))
				fmt.Fprintln(w, strings.Join(row, "\t"))
			}
			w.Flush()
			_, err = list.WriteTo(a.stdout)
			return errors.Join(err, broken)
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&quiet, "quiet", "q", false, "print image ids only")
	flags.BoolVar(&noTrunc, "no-trunc", false, "print ids in full")
	flags.BoolVar(&digests, "digests", false, "print the digests that the references had at their registries")
	return cmd
}

// nameAndTag splits a stored reference as docker's listing does.
func nameAndTag(name string) (repository, tag string) {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return printable(name), "<none>" // written by another tool
	}
	if ref.Tag() == "" {
		return ref.FamiliarName(), "<none>"
	}
	return ref.FamiliarName(), ref.Tag()
}

func created(img *store.Image, now time.Time) string {
	t := img.Config.Created
	if t == nil || t.Unix() <= 0 { // reproducible builds have no honest date
		return "N/A"
	}
	return units.HumanDuration(now.Sub(*t)) + " ago"
}
