package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"peel/pkg/registry"
	"peel/pkg/store"
)

func newRmiCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "rmi REFERENCE...",
		Short: "Remove images from the store",
		Long: `Remove images from the store, with all of their blobs that no other image has.
Directories that were unpacked from them stay as they are.`,
		Example: "  peel rmi nginx:latest",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			st, err := a.openStore()
			if err != nil {
				return err
			}
			defer st.Close()
			var errs []error
			for _, arg := range args {
				errs = append(errs, a.untag(cmd.Context(), st, arg))
			}
			_, err = st.Prune(cmd.Context())
			if errors.Is(err, store.ErrInUse) {
				fmt.Fprintln(a.stderr, "warning: the store is in use; 'peel prune' will free the space later")
				err = nil
			}
			return errors.Join(append(errs, err)...)
		},
	}
}

func (a *app) untag(ctx context.Context, st *store.Store, name string) error {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return err
	}
	err = st.Untag(ctx, ref.String())
	if errors.Is(err, store.ErrNotFound) {
		return unknownImageError{ref.String()}
	}
	if err == nil {
		_, err = fmt.Fprintf(a.stdout, "Untagged: %s\n", ref)
	}
	return err
}

// unknownImageError names an image that was to be removed and is not there.
type unknownImageError struct{ name string }

func (e unknownImageError) Error() string { return "image " + e.name + ": not in the store" }

func newPruneCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "prune",
		Short:   "Remove from the store what no image needs",
		Long:    "Remove from the store the blobs that no image has, and what interrupted pulls have left.",
		Example: "  peel prune",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.prune(cmd.Context()) },
	}
}

func (a *app) prune(ctx context.Context) error {
	st, err := a.openStore()
	if err != nil {
		return err
	}
	defer st.Close()
	p, err := st.Prune(ctx)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "Total reclaimed space: %s\n", units.HumanSize(float64(p.Bytes)))
	return err
}
