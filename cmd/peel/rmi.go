package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"peel/pkg/image"
	"peel/pkg/registry"
	"peel/pkg/run"
	"peel/pkg/store"
)

func newRmiCommand(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rmi [flags] REFERENCE...",
		Short: "Remove images from the store",
		Long: `Remove images from the store, with all of their blobs and prepared layers that no
other image has. Directories that were unpacked from them stay as they are.

An image stays that a container is made of. With --force it loses its name and its
blobs; what the container needs of it goes when the container has gone.`,
		Example: "  peel rmi nginx:latest",
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.rmi(cmd.Context(), args, force) },
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "also remove images that containers are made of")
	return cmd
}

func (a *app) rmi(ctx context.Context, names []string, force bool) error {
	st, err := a.openStore()
	if err != nil {
		return err
	}
	defer st.Close()
	var errs []error
	for _, name := range names {
		errs = append(errs, a.untag(ctx, st, name, force))
	}
	_, err = a.reclaim(ctx, st, false)
	if errors.Is(err, store.ErrInUse) || errors.Is(err, image.ErrInUse) {
		fmt.Fprintln(a.stderr, "warning: the store is in use; 'peel prune' will free the space later")
		err = nil
	}
	return errors.Join(append(errs, err)...)
}

func (a *app) untag(ctx context.Context, st *store.Store, name string, force bool) error {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return err
	}
	if !force {
		if err := a.checkUnused(st, ref.String()); err != nil {
			return err
		}
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

// checkUnused returns a *usedImageError for the last name of an image that
// containers are made of.
func (a *app) checkUnused(st *store.Store, name string) error {
	img, err := st.Resolve(name)
	if err != nil {
		return nil // nothing that a container could be made of
	}
	imgs, _ := st.Images()
	for _, other := range imgs {
		if other.Name != name && other.Descriptor.Digest == img.Descriptor.Digest {
			return nil
		}
	}
	containers, err := a.imageContainers()
	if err != nil {
		return err
	}
	used := &usedImageError{name: name}
	for _, c := range containers {
		if c.Root.Image.Manifest == img.Descriptor.Digest {
			used.containers = append(used.containers, c.Name)
		}
	}
	if len(used.containers) == 0 {
		return nil
	}
	return used
}

// imageContainers are the containers that are made of what is kept of images, and not
// of a copy.
func (a *app) imageContainers() ([]*run.Container, error) {
	rt, err := a.openRuntime()
	if err != nil {
		return nil, err
	}
	all, err := rt.List()
	return slices.DeleteFunc(all, func(c *run.Container) bool { return c.Root.Image == nil }), err
}

// usedImageError is an image that was to be removed and that containers are made of.
type usedImageError struct {
	name       string
	containers []string
}

func (e *usedImageError) Error() string {
	return fmt.Sprintf("image %s: in use by %s", e.name, strings.Join(e.containers, ", "))
}

// unknownImageError names an image that was to be removed and is not there.
type unknownImageError struct{ name string }

func (e unknownImageError) Error() string { return "image " + e.name + ": not in the store" }

func newPruneCommand(a *app) *cobra.Command {
	var blobs bool
	cmd := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Remove from the store what no image needs",
		Long: `Remove from the store the blobs and prepared layers that no image has, and what
interrupted pulls have left. What a container is made of stays.

With --blobs, layers that are prepared lose the blobs that they came as: run and
unpack take the prepared ones. Other tools that read the store do not find them;
'peel pull' brings them back.`,
		Example: "  peel prune\n  peel prune --blobs",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.prune(cmd.Context(), blobs) },
	}
	cmd.Flags().BoolVar(&blobs, "blobs", false, "also remove the blobs of layers that are prepared")
	return cmd
}

func (a *app) prune(ctx context.Context, blobs bool) error {
	st, err := a.openStore()
	if err != nil {
		return err
	}
	defer st.Close()
	before := diskUse(st.Root())
	freed, err := a.reclaim(ctx, st, blobs)
	if err != nil {
		return err
	}
	if blobs {
		fmt.Fprintf(a.stdout, "Disk use: %s before, %s now\n", units.HumanSize(float64(before)), units.HumanSize(float64(diskUse(st.Root()))))
	}
	_, err = fmt.Fprintf(a.stdout, "Total reclaimed space: %s\n", units.HumanSize(float64(freed)))
	return err
}

// preparedBlobs is the layers' blobs that no image needs, since they are prepared.
// What a config says of a blob counts for the images that have this config alone.
func preparedBlobs(st *store.Store, tars *image.Tars) map[digest.Digest]bool {
	imgs, _ := st.Images() // those that cannot be read cannot be used either
	without := map[digest.Digest]bool{}
	for _, img := range imgs {
		for i, l := range img.Manifest.Layers {
			prepared := tars.Has(img.Config.RootFS.DiffIDs[i])
			if other, seen := without[l.Digest]; seen {
				prepared = prepared && other
			}
			without[l.Digest] = prepared
		}
	}
	return without
}

// diskUse is how many bytes the images of a store take on disk, as they came and as
// they were prepared.
func diskUse(root string) (n int64) {
	for _, dir := range []string{"images", "layers", "erofs", "trees"} {
		_ = filepath.WalkDir(filepath.Join(root, dir), func(path string, _ fs.DirEntry, err error) error {
			var st unix.Stat_t
			if err == nil && unix.Lstat(path, &st) == nil {
				n += st.Blocks * 512
			}
			return nil // it may just have been removed
		})
	}
	return n
}

// pruneBlobs removes the blobs that no image has, and with prepared those, too, that
// are prepared.
func (a *app) pruneBlobs(ctx context.Context, st *store.Store, prepared bool) (store.Pruned, error) {
	if !prepared {
		return st.Prune(ctx, nil)
	}
	tars, err := a.openTars()
	if err != nil {
		return store.Pruned{}, err
	}
	defer tars.Close()
	if err := tars.Sync(); err != nil {
		return store.Pruned{}, err
	}
	return st.Prune(ctx, preparedBlobs(st, tars))
}

// reclaim removes what nobody needs any more, and returns how many bytes that were.
func (a *app) reclaim(ctx context.Context, st *store.Store, prepared bool) (freed int64, err error) {
	blobs, err := a.pruneBlobs(ctx, st, prepared)
	if err != nil {
		return blobs.Bytes, err
	}
	cache, err := a.openCache()
	if err != nil {
		return blobs.Bytes, err
	}
	layers, err := cache.Prune(func() (keep []image.ID, err error) {
		imgs, _ := st.Images() // of what is broken, nothing can be of use
		for _, img := range imgs {
			keep = append(keep, image.IDOf(img))
		}
		containers, err := a.imageContainers()
		for _, c := range containers {
			keep = append(keep, image.ID(*c.Root.Image))
		}
		return keep, err
	}, run.RemoveTree)
	return blobs.Bytes + layers, err
}
