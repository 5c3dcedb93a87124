package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/opencontainers/go-digest"

	"peel/pkg/image"
	"peel/pkg/progress"
	"peel/pkg/store"
	"peel/pkg/unpack"
)

// When to ask the registry.
const (
	pullMissing = "missing"
	pullAlways  = "always"
	pullNever   = "never"
)

// imageRequest is an image that a command is to do something with.
type imageRequest struct {
	name string // as typed
	when string // --pull
	// quiet: nothing is said unless the image has to be pulled.
	quiet bool
	// last is the event that completes a layer; empty is progress.Unpacked.
	last progress.Kind
}

// use does something with an image whose layers may still be arriving. It may be
// called twice, the second time with what has been verified, after an error for
// which a layer is to blame.
type use func(ctx context.Context, blobs unpack.Blobs, img *store.Image, report progress.Func) error

// useImage gives an image to use: from the store, or else from its registry and into
// the store, beside use.
func (a *app) useImage(ctx context.Context, req imageRequest, f pullFlags, use use) error {
	if req.when != pullMissing && req.when != pullAlways && req.when != pullNever {
		return usageError{nil, fmt.Errorf("--pull %q: want missing, always or never", req.when)}
	}
	p, err := a.newPulling(req.name, f, cmp.Or(req.last, progress.Unpacked))
	if err != nil {
		return err
	}
	defer p.close()
	tars, err := a.openTars()
	if err != nil {
		return err
	}
	defer tars.Close()
	img, err := p.stored(req.when, tars)
	if err != nil {
		return err
	}
	use = p.mending(tars, use)
	if img != nil {
		report := p.ui.event
		if req.quiet {
			report = nil
		}
		err := useStored(ctx, p.st, img, report, use)
		if req.when == pullNever || ctx.Err() != nil || !contentAtFault(err) {
			return err
		}
		// A layer may have rotted on disk. Those that have are fetched again, and
		// the image is used once more.
		dropped, dropErr := p.st.DropDamaged(ctx, img)
		if dropErr != nil || len(dropped) == 0 && haveLayers(p.st, tars, img) {
			return err
		}
		for _, d := range dropped {
			p.ui.event(progress.Event{Kind: progress.Warning, Digest: d, Message: fmt.Sprintf("stored layer %s is damaged and is fetched again", d)})
		}
	}
	_, err = p.fetch(ctx, func(ctx context.Context, img *store.Image, blobs store.Follower) error {
		return use(ctx, blobs, img, p.ui.event)
	})
	return err
}

// mending is use with the tars of the layers that are prepared. What of those has
// rotted is removed, and the image used once more.
func (p *pulling) mending(tars *image.Tars, use use) use {
	return func(ctx context.Context, blobs unpack.Blobs, img *store.Image, report progress.Func) error {
		err := use(ctx, tars.Over(blobs), img, report)
		if ctx.Err() != nil || !contentAtFault(err) {
			return err
		}
		dropped, dropErr := tars.DropDamaged(ctx, img)
		if dropErr != nil || len(dropped) == 0 {
			return err
		}
		for _, d := range dropped {
			p.ui.event(progress.Event{Kind: progress.Warning, Digest: d, Message: fmt.Sprintf("prepared layer %s is damaged and is not used", d)})
		}
		return use(ctx, tars.Over(blobs), img, report)
	}
}

// openTars opens the layers that are prepared; nil where the store is on a medium
// that cannot be written to, and so not be locked.
func (a *app) openTars() (*image.Tars, error) {
	cache, err := a.openCache()
	if errors.Is(err, syscall.EROFS) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	tars, err := cache.Tars()
	if errors.Is(err, syscall.EROFS) {
		return nil, nil
	}
	return tars, err
}

// stored finds an image that may be used without asking its registry; nil where the
// registry has to be asked.
func (p *pulling) stored(when string, tars *image.Tars) (*store.Image, error) {
	if when == pullAlways {
		return nil, nil
	}
	img, err := p.st.Resolve(p.ref.String())
	switch {
	case err != nil:
	case !p.puller.Fits(img):
		err = fmt.Errorf("image %s for this platform: %w", p.ref, store.ErrNotFound)
	case !haveLayers(p.st, tars, img):
		err = fmt.Errorf("layers of image %s: %w", p.ref, store.ErrNotFound)
	default:
		return img, nil
	}
	if when == pullNever {
		return nil, err
	}
	return nil, nil // a pull repairs whatever is missing or damaged
}

// haveLayers tells whether each layer is there as it came or as it was prepared.
func haveLayers(st *store.Store, tars *image.Tars, img *store.Image) bool {
	for i, l := range img.Manifest.Layers {
		if !st.Has(l) && !tars.Has(img.Config.RootFS.DiffIDs[i]) {
			return false
		}
	}
	return true
}

// useStored tells of layers that are all there, and uses the image.
func useStored(ctx context.Context, blobs unpack.Blobs, img *store.Image, report progress.Func, use use) error {
	seen := map[digest.Digest]bool{}
	for _, l := range img.Manifest.Layers {
		if !seen[l.Digest] {
			seen[l.Digest] = true
			report.Send(progress.Event{Kind: progress.Queued, Digest: l.Digest, Total: l.Size})
			report.Send(progress.Event{Kind: progress.Exists, Digest: l.Digest, Total: l.Size})
		}
	}
	return use(ctx, blobs, img, report)
}
