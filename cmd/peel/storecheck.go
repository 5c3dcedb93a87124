package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"peel/pkg/image"
	"peel/pkg/run"
	"peel/pkg/store"
)

func newStoreCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "store",
		Short:   "Look after the store",
		Example: "  peel store check",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newStoreCheckCommand(a))
	return cmd
}

// exitDamaged is the exit code of a check that has found damage, and left it.
const exitDamaged = exitCode(1)

func newStoreCheckCommand(a *app) *cobra.Command {
	var repair, quiet bool
	var jobs int
	cmd := &cobra.Command{
		Use:   "check [flags]",
		Short: "Compare all that is stored with its digests",
		Long: `Read all that is stored and compare it with its digests: blobs, the tars of prepared
layers, and the indexes that were made of those. Each file with something to be said
of it gets a line:

  damaged   it is not what its name says
  missing   an image needs it
  unused    nothing needs it: 'peel prune' removes it
  partial   an interrupted command has left it: the next one goes on from it
  unknown   peel has not made it

With --repair, what is damaged is removed, and prepared again where its blobs are
sound; 'peel pull' brings the rest. The exit code is 1 where damage is left.`,
		Example: "  peel store check\n  peel store check --repair",
		Args:    asUsage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if jobs < 0 {
				return usageError{nil, fmt.Errorf("--jobs %d: want a positive number", jobs)}
			}
			if jobs == 0 {
				jobs = runtime.GOMAXPROCS(0)
			}
			return a.storeCheck(cmd.Context(), repair, quiet, jobs)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&repair, "repair", false, "remove what is damaged, and make it again")
	flags.BoolVarP(&quiet, "quiet", "q", false, "only what is damaged or missing")
	flags.IntVarP(&jobs, "jobs", "j", 0, "files to read at once (default: one a processor)")
	return cmd
}

func (a *app) storeCheck(ctx context.Context, repair, quiet bool, jobs int) error {
	st, err := a.openStore()
	if err != nil {
		return err
	}
	defer st.Close()
	cache, err := a.openCache()
	if err != nil {
		return err
	}
	k := &storeCheck{app: a, st: st, cache: cache, jobs: jobs}
	if err := k.run(ctx); err != nil {
		return err
	}
	if repair && k.damaged() {
		before := k.harmful()
		if err := k.repair(ctx); err != nil {
			return err
		}
		if err := k.run(ctx); err != nil { // whatever was made again is looked at too
			return err
		}
		for _, f := range before {
			if !slices.ContainsFunc(k.harmful(), func(left store.Finding) bool { return left.Path == f.Path }) {
				fmt.Fprintln(a.stdout, k.line("repaired", f))
			}
		}
	}
	for _, f := range slices.Concat(k.blobs, k.layers) {
		if !quiet || f.Harm() {
			fmt.Fprintln(a.stdout, k.line(string(f.What), f))
		}
	}
	if !quiet {
		fmt.Fprintf(a.stdout, "%d files, %s: %d damaged or missing\n", k.done.Files, units.HumanSize(float64(k.done.Bytes)), len(k.harmful()))
	}
	if len(k.harmful()) == 0 {
		return nil
	}
	k.hints(repair)
	return exitDamaged
}

// storeCheck is one check of a store.
type storeCheck struct {
	app   *app
	st    *store.Store
	cache *image.Cache
	jobs  int

	imgs          []*store.Image // those that can be read
	containers    []*run.Container
	images, made  []image.ID // that may be prepared, and that containers mount
	blobs, layers []store.Finding
	done          store.Checked
}

func (k *storeCheck) run(ctx context.Context) (err error) {
	k.imgs, _ = k.st.Images() // of the others, Check says why
	if k.containers, err = k.app.imageContainers(); err != nil {
		return err
	}
	k.images, k.made = nil, nil
	for _, img := range k.imgs {
		k.images = append(k.images, image.IDOf(img))
	}
	for _, c := range k.containers {
		if id := image.ID(*c.Root.Image); c.Root.Mounts() {
			k.made = append(k.made, id)
		} else {
			k.images = append(k.images, id) // of files, and needs no layer
		}
	}
	var blobs, layers store.Checked
	if k.blobs, blobs, err = k.st.Check(ctx, k.jobs); err != nil {
		return err
	}
	if k.layers, layers, err = k.cache.Verify(ctx, k.images, k.made, k.jobs); err != nil {
		return err
	}
	for i, f := range k.layers {
		k.layers[i].Images = k.needing(f.Digest)
	}
	k.done = store.Checked{Files: blobs.Files + layers.Files, Bytes: blobs.Bytes + layers.Bytes}
	return k.withoutPruned()
}

// needing is the images and containers that have a prepared layer, or an index.
func (k *storeCheck) needing(d digest.Digest) (names []string) {
	has := func(id image.ID) bool { return d != "" && (id.Manifest == d || slices.Contains(id.DiffIDs, d)) }
	for _, img := range k.imgs {
		if has(image.IDOf(img)) {
			names = append(names, img.Name)
		}
	}
	for _, c := range k.containers {
		if has(image.ID(*c.Root.Image)) {
			names = append(names, "container "+c.Name)
		}
	}
	return names
}

// withoutPruned forgets of missing blobs those of layers that are prepared: nobody
// needs them.
func (k *storeCheck) withoutPruned() error {
	tars, err := k.cache.Tars()
	if err != nil {
		return err
	}
	defer tars.Close()
	sound := func(d digest.Digest) bool {
		return tars.Has(d) && !slices.ContainsFunc(k.layers, func(f store.Finding) bool { return f.Digest == d && f.Harm() })
	}
	k.blobs = slices.DeleteFunc(k.blobs, func(f store.Finding) bool {
		return f.What == store.Missing && len(f.DiffIDs) > 0 && !slices.ContainsFunc(f.DiffIDs, func(d digest.Digest) bool { return !sound(d) })
	})
	return nil
}

func (k *storeCheck) harmful() []store.Finding {
	return slices.DeleteFunc(slices.Concat(k.blobs, k.layers), func(f store.Finding) bool { return !f.Harm() })
}

func (k *storeCheck) damaged() bool {
	return slices.ContainsFunc(k.harmful(), func(f store.Finding) bool { return f.What == store.Damaged })
}

// repair removes what is damaged and prepares again what was prepared.
func (k *storeCheck) repair(ctx context.Context) error {
	if _, err := k.st.Drop(k.blobs); err != nil {
		return err
	}
	if err := k.cache.Drop(k.layers, slices.Concat(k.images, k.made)); err != nil {
		return err
	}
	damaged := map[digest.Digest]bool{}
	for _, f := range k.layers {
		if f.What == store.Damaged {
			damaged[f.Digest] = true
		}
	}
	again := func(id image.ID) bool {
		return damaged[id.Manifest] || slices.ContainsFunc(id.DiffIDs, func(d digest.Digest) bool { return damaged[d] })
	}
	for _, img := range k.imgs {
		if !again(image.IDOf(img)) {
			continue
		}
		p, err := k.cache.Prepare(ctx, k.st, img, image.Options{Jobs: k.jobs})
		if err == nil {
			err = p.Close()
		}
		if err := k.tolerable(ctx, err); err != nil {
			return err
		}
	}
	for _, c := range k.containers {
		if id := image.ID(*c.Root.Image); c.Root.Mounts() && again(id) {
			p, err := k.cache.Restore(ctx, id)
			if err == nil {
				err = p.Close()
			}
			if err := k.tolerable(ctx, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// tolerable drops errors for which a layer is to blame, or its absence: the check
// that follows tells what is left.
func (k *storeCheck) tolerable(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, image.ErrNotFound), errors.Is(err, store.ErrNotFound), contentAtFault(err):
		return nil
	}
	return err
}

// line is one finding: what, which file, for whom.
func (k *storeCheck) line(what string, f store.Finding) string {
	path, err := filepath.Rel(k.st.Root(), f.Path)
	if err != nil {
		path = f.Path
	}
	s := fmt.Sprintf("%-9s %s", what, printable(path))
	if len(f.Images) > 0 {
		s += " (" + printable(strings.Join(f.Images, ", ")) + ")"
	}
	return s
}

// hints names the next step for what is left.
func (k *storeCheck) hints(repaired bool) {
	if !repaired && k.damaged() {
		fmt.Fprintln(k.app.stderr, "hint: 'peel store check --repair' removes what is damaged, and makes again what it can")
		return
	}
	var names []string
	for _, f := range k.harmful() {
		names = append(names, f.Images...)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if !strings.HasPrefix(name, "container ") {
			fmt.Fprintf(k.app.stderr, "hint: 'peel pull %s' brings back what is missing\n", printable(name))
		}
	}
}
