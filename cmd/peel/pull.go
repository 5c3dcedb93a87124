package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"peel/pkg/progress"
	"peel/pkg/registry"
	"peel/pkg/store"
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

func (f *pullFlags) options(report progress.Func) (registry.Options, error) {
	if f.jobs < 0 {
		return registry.Options{}, usageError{nil, fmt.Errorf("--jobs %d: want a positive number", f.jobs)}
	}
	o := registry.Options{Jobs: f.jobs, Insecure: f.insecure, Progress: report, UserAgent: "peel/" + nextVersion}
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
	ref, err := registry.ParseReference(name)
	if err != nil {
		return err
	}
	ui, err := a.newUI(f.quiet, progress.Downloaded)
	if err != nil {
		return err
	}
	defer ui.close()
	o, err := f.options(ui.event)
	if err != nil {
		return err
	}
	st, err := a.openStore()
	if err != nil {
		return err
	}
	defer st.Close()
	p := registry.New(o)
	defer p.Close()
	r, err := p.Resolve(ctx, ref, st)
	if err != nil {
		return err
	}
	if !r.UpToDate {
		pulling(ui, ref)
		if err := p.Fetch(ctx, r, st); err != nil {
			return err
		}
		if err := st.Tag(ctx, ref.String(), r.Image); err != nil {
			return err
		}
	}
	ui.close()
	pulled(ui, name, r)
	if f.quiet {
		fmt.Fprintln(a.stdout, r.Image.Source)
	}
	return nil
}

// pulling prints the first line of a pull.
func pulling(ui ui, ref registry.Reference) {
	what := ref.Tag()
	if what == "" {
		what = ref.Digest().String()
	}
	ui.line("%s: Pulling from %s", what, ref.Path())
}

// pulled prints the last lines of a pull.
func pulled(ui ui, name string, r *registry.Remote) {
	if r.UpToDate {
		ui.line("Status: Image is up to date for %s", name)
		return
	}
	ui.line("Digest: %s", r.Image.Source)
	ui.line("Status: Downloaded newer image for %s", name)
}

// pullAnd fetches the layers of a resolved image and runs use beside it, which
// may read them from blobs while they arrive. Only when both have succeeded does
// the image get its name.
func pullAnd(ctx context.Context, p *registry.Puller, st *store.Store, r *registry.Remote, name string, use func(context.Context, store.Follower) error) error {
	g, both := errgroup.WithContext(ctx)
	g.Go(func() error { return p.Fetch(both, r, st) })
	g.Go(func() error { return use(both, st.Follow()) })
	if err := g.Wait(); err != nil {
		return err
	}
	return st.Tag(ctx, name, r.Image)
}
