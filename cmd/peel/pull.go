package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"peel/pkg/layers/tar"
	"peel/pkg/progress"
	"peel/pkg/registry"
	"peel/pkg/store"
	"peel/pkg/unpack"
)

// pullFlags are the flags of every verb that may have to pull.
type pullFlags struct {
	platform string
	jobs     int
	insecure bool
	quiet    bool
}

func (f *pullFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.platform, "platform", "", "`OS/ARCH[/VARIANT]` of the image (default: this machine's)")
	flags.IntVarP(&f.jobs, "jobs", "j", 0, "layers in work at once (default: as suits the machine)")
	flags.BoolVar(&f.insecure, "insecure", false, "allow plain HTTP and unverified certificates")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "no progress")
}

func (f *pullFlags) options() (registry.Options, error) {
	if f.jobs < 0 {
		return registry.Options{}, usageError{nil, fmt.Errorf("--jobs %d: want a positive number", f.jobs)}
	}
	o := registry.Options{Jobs: f.jobs, Insecure: f.insecure, UserAgent: "peel/" + nextVersion}
	if f.platform != "" {
		p, err := registry.ParsePlatform(f.platform)
		if err != nil {
			return o, usageError{nil, err}
		}
		o.Platform = p
	}
	return o, nil
}

func newPullCommand(a *app) *cobra.Command {
	var f pullFlags
	cmd := &cobra.Command{
		Use:   "pull [flags] REFERENCE",
		Short: "Fetch an image from its registry into the store",
		Long: `Fetch an image from its registry into the store, every byte verified.

What is stored already is not fetched again; an interrupted pull goes on where
it stopped. With --quiet, stdout gets the digest and nothing else.`,
		Example: `  peel pull nginx:latest
  peel pull --platform linux/arm64 debian:12
  peel pull -q localhost:5000/team/app@sha256:...`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.pull(cmd.Context(), args[0], f) },
	}
	f.register(cmd)
	return cmd
}

func (a *app) pull(ctx context.Context, name string, f pullFlags) error {
	p, err := a.newPulling(name, f, progress.Downloaded)
	if err != nil {
		return err
	}
	defer p.close()
	img, err := p.fetch(ctx, nil)
	if err == nil && f.quiet {
		_, err = fmt.Fprintln(a.stdout, img.Source)
	}
	return err
}

// pulling is one image on its way from its registry into the store, and on the
// screen.
type pulling struct {
	a      *app
	name   string // as typed
	ref    registry.Reference
	ui     ui
	st     *store.Store
	puller *registry.Puller
}

// newPulling opens all that it takes. last is as for newUI. The caller must close it.
func (a *app) newPulling(name string, f pullFlags, last progress.Kind) (*pulling, error) {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return nil, err
	}
	o, err := f.options()
	if err != nil {
		return nil, err
	}
	st, err := a.openStore()
	if err != nil {
		return nil, err
	}
	ui, err := a.newUI(f.quiet, last)
	if err != nil {
		st.Close()
		return nil, err
	}
	o.Progress = announced(ui, ref)
	return &pulling{a, name, ref, ui, st, registry.New(o)}, nil
}

func (p *pulling) close() {
	p.puller.Close()
	p.st.Close()
	p.ui.close()
}

// announced passes events on to the ui, before the first layer's with the line
// that a pull begins with.
func announced(ui ui, ref registry.Reference) progress.Func {
	announce := sync.OnceFunc(func() {
		what := ref.Tag()
		if what == "" {
			what = ref.Digest().String()
		}
		ui.line("%s: Pulling from %s", what, ref.Path())
	})
	return func(e progress.Event) {
		if e.Kind == progress.Queued {
			announce()
		}
		ui.event(e)
	}
}

// fetch brings the image into the store, gives it its name, and tells of it. Beside
// that runs use, unless it is nil, which may read layers from blobs while they
// arrive; the name is given only when both have succeeded. What use has made of
// bytes that nobody had verified yet may be wrong: then it runs once more when they
// have been.
func (p *pulling) fetch(ctx context.Context, use func(context.Context, *store.Image, store.Follower) error) (*store.Image, error) {
	p.a.resumable = true
	r, err := p.transfer(ctx, use)
	if err != nil {
		return nil, err
	}
	p.ui.close()
	if r.UpToDate {
		p.ui.line("Status: Image is up to date for %s", p.name)
	} else {
		p.ui.line("Digest: %s", r.Image.Source)
		p.ui.line("Status: Downloaded newer image for %s", p.name)
	}
	return r.Image, nil
}

func (p *pulling) transfer(ctx context.Context, use func(context.Context, *store.Image, store.Follower) error) (*registry.Remote, error) {
	var r *registry.Remote
	g, both := errgroup.WithContext(ctx)
	var doubtful bool
	begin := func(r *registry.Remote) {
		if use == nil {
			return
		}
		g.Go(func() error {
			arriving := missing(p.st, r.Image)
			err := use(both, r.Image, p.st.Follow())
			if doubtful = unverified(arriving, err); doubtful {
				return nil // the pull will tell whether the bytes were the image's
			}
			return err
		})
	}
	if _, err := p.st.Resolve(p.ref.String()); err == nil {
		// Probably nothing has changed, which one request tells.
		if r, err = p.puller.Resolve(ctx, p.ref, p.st); err != nil {
			return nil, blame(err)
		}
		if r.UpToDate && use == nil {
			return r, nil
		}
		begin(r)
		g.Go(func() error { return blame(p.puller.Fetch(both, r, p.st)) })
	} else {
		g.Go(func() (err error) {
			r, err = p.puller.Pull(both, p.ref, p.st, begin)
			return blame(err)
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if doubtful {
		if err := use(ctx, r.Image, p.st.Follow()); err != nil {
			return nil, err
		}
	}
	return r, p.st.Tag(ctx, p.ref.String(), r.Image)
}

// missing is the layers of img that are not stored now.
func missing(st *store.Store, img *store.Image) map[digest.Digest]bool {
	ds := map[digest.Digest]bool{}
	for _, l := range img.Manifest.Layers {
		if !st.Has(l) {
			ds[l.Digest] = true
		}
	}
	return ds
}

// unverified tells whether an unpack has failed for what a layer holds, which it
// may have read before that was known to be what the image's manifest names.
func unverified(arriving map[digest.Digest]bool, err error) bool {
	var layer *unpack.LayerError
	return contentAtFault(err) && errors.As(err, &layer) && arriving[layer.Digest]
}

// contentAtFault tells whether an unpack has failed for what a layer holds, and not
// for want of room, rights or patience.
func contentAtFault(err error) bool {
	var layer *unpack.LayerError
	var limit *unpack.LimitError
	var tarLimit *tar.LimitError
	var local syscall.Errno
	switch {
	case !errors.As(err, &layer), errors.As(err, &limit), errors.As(err, &tarLimit), errors.Is(err, context.Canceled):
		return false
	case errors.As(err, &local):
		return local == syscall.EIO // from a disk that has lost the layer
	}
	return true
}

// pullError is what went wrong between peel and a registry.
type pullError struct{ error }

func (e pullError) Unwrap() error { return e.error }

func blame(err error) error {
	if err == nil {
		return nil
	}
	return pullError{err}
}
