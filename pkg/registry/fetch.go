package registry

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"peel/pkg/progress"
	"peel/pkg/store"
)

const (
	bufSize = 256 << 10
	// minRead is what is waited for before bytes go on to the store. A TLS record
	// holds 16 KiB, and a system call for each is felt; more would keep bytes on a
	// slow line from whoever follows the blob.
	minRead = 64 << 10
	// progressStep is how many bytes pass between two events of a layer.
	progressStep = 512 << 10
	// newStart is how far a transfer must get for its failures to be forgotten.
	newStart = 1 << 20
)

// Fetch brings those layers of the image into the store that it lacks. A layer
// that somebody else is fetching is waited for. What has arrived when Fetch
// fails is kept for the next attempt, unless it was wrong.
func (p *Puller) Fetch(ctx context.Context, r *Remote, st *store.Store) error {
	f := &fetch{puller: p, repo: r.repo, store: st}
	return f.layers(ctx, r.Image.Manifest.Layers)
}

// Pull is Resolve and Fetch at once: the layers are on their way while the
// config still is, which saves the round trips to where blobs are kept. resolved,
// unless it is nil, is called as soon as the image is known, from another
// goroutine, and must not block; it is where to begin unpacking. Pull returns
// when all has arrived or the first thing has gone wrong.
func (p *Puller) Pull(ctx context.Context, ref Reference, st *store.Store, resolved func(*Remote)) (*Remote, error) {
	found, err := p.find(ctx, ref, st)
	if err != nil {
		return nil, err
	}
	var r *Remote
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		if r, err = found.image(ctx); err == nil && resolved != nil {
			resolved(r)
		}
		return err
	})
	g.Go(func() error {
		f := &fetch{puller: p, repo: found.repo, store: st}
		return f.layers(ctx, found.manifest.Layers)
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return r, nil
}

func (f *fetch) layers(ctx context.Context, all []ocispec.Descriptor) error {
	var missing []ocispec.Descriptor
	seen := map[digest.Digest]bool{}
	for _, d := range all {
		if seen[d.Digest] {
			continue
		}
		seen[d.Digest] = true
		f.send(progress.Queued, d, 0)
		if f.store.Has(d) {
			f.send(progress.Exists, d, 0)
			continue
		}
		missing = append(missing, d)
	}
	// The largest first: none of them is left over when the others are done.
	slices.SortStableFunc(missing, func(a, b ocispec.Descriptor) int { return cmp.Compare(b.Size, a.Size) })
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(f.puller.o.Jobs)
	for _, d := range missing {
		g.Go(func() error { return f.layer(ctx, d) })
	}
	return g.Wait()
}

type fetch struct {
	puller *Puller
	repo   *repository
	store  *store.Store
}

func (f *fetch) send(k progress.Kind, d ocispec.Descriptor, current int64) {
	f.puller.o.Progress.Send(progress.Event{Kind: k, Digest: d.Digest, Current: current, Total: d.Size})
}

// layer delivers one layer. When the bytes of an earlier attempt and of this one
// do not make up the blob, it is fetched once more as a whole: either may have
// been the wrong ones.
func (f *fetch) layer(ctx context.Context, d ocispec.Descriptor) error {
	t := &transfer{fetch: f, desc: d}
	err := t.run(ctx)
	var bad *store.VerifyError
	if t.resumed && errors.As(err, &bad) {
		f.retrying(d, 0, err)
		t = &transfer{fetch: f, desc: d, whole: true}
		err = t.run(ctx)
	}
	switch {
	case errors.Is(err, store.ErrExists):
		f.send(progress.Exists, d, 0)
		return nil
	case err != nil:
		return err
	}
	f.send(progress.Downloaded, d, d.Size)
	return nil
}

func (f *fetch) retrying(d ocispec.Descriptor, at int64, why error) {
	f.puller.o.Progress.Send(progress.Event{Kind: progress.Retrying, Digest: d.Digest, Current: at, Total: d.Size, Message: printable(why.Error())})
}
