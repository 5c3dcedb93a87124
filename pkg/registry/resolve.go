package registry

import (
	"context"
	"fmt"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/pkg/progress"
	"peel/pkg/store"
)

// maxNesting of indexes. The specification allows them within each other.
const maxNesting = 4

// Remote is an image at a registry, as Resolve has found it.
type Remote struct {
	Reference Reference
	// Image has its Name, and its Source: the digest that `docker pull` reports.
	// Its manifest and config have been checked and are in the store.
	Image *store.Image
	// UpToDate: the store has this very image under this name, with all its blobs.
	UpToDate bool

	repo *repository
}

// Resolve finds out which image the reference names now, for the Puller's
// platform. What it fetches for that is left in the store. When the store has
// all of it, Resolve costs one HEAD request.
func (p *Puller) Resolve(ctx context.Context, ref Reference, st *store.Store) (*Remote, error) {
	f, err := p.find(ctx, ref, st)
	if err != nil {
		return nil, err
	}
	return f.image(ctx)
}

// finding is what is known before the image's config is.
type finding struct {
	repo     *repository
	store    *store.Store
	ref      Reference
	source   digest.Digest
	doc      document // the manifest's
	manifest *ocispec.Manifest
	upToDate bool
	pick     chooser
}

// find goes from the reference to the manifest.
func (p *Puller) find(ctx context.Context, ref Reference, st *store.Store) (*finding, error) {
	repo, err := p.repository(ref)
	if err != nil {
		return nil, err
	}
	var top ocispec.Descriptor
	err = repo.retry(ctx, func() (err error) {
		top, err = repo.head(ctx, ref)
		return err
	})
	if err != nil {
		return nil, err
	}
	if top.Digest == "" {
		top.Digest = ref.digest
	}
	doc, err := repo.manifest(ctx, ref, top, st)
	if err != nil {
		return nil, err
	}
	f := &finding{repo: repo, store: st, ref: ref, source: doc.desc.Digest, pick: newChooser(p.o.Platform)}
	if f.doc, err = repo.descend(ctx, ref, doc, f.pick, st); err != nil {
		return nil, err
	}
	if f.manifest, err = store.ParseManifest(f.doc.desc, f.doc.bytes); err != nil {
		return nil, err
	}
	if err := checkConfig(f.manifest.Config); err != nil {
		return nil, err
	}
	f.upToDate = f.isUpToDate()
	p.o.Progress.Send(progress.Event{Kind: progress.Resolved, Image: ref.String(), Digest: f.source, Message: ref.Path()})
	return f, nil
}

// image goes on from the manifest to the config.
func (f *finding) image(ctx context.Context) (*Remote, error) {
	config, err := f.repo.config(ctx, f.manifest.Config, f.store)
	if err != nil {
		return nil, err
	}
	img, err := store.NewImage(f.doc.desc, f.doc.bytes, config)
	if err != nil {
		return nil, err
	}
	img.Name, img.Source = f.ref.String(), f.source
	if err := f.repo.puller.checkPlatform(img, f.pick); err != nil {
		return nil, err
	}
	return &Remote{Reference: f.ref, Image: img, UpToDate: f.upToDate, repo: f.repo}, nil
}

// descend goes from an index to the manifest for the platform.
func (r *repository) descend(ctx context.Context, ref Reference, doc document, pick chooser, st *store.Store) (document, error) {
	for range maxNesting {
		if !isIndexType(doc.desc.MediaType) {
			return doc, nil
		}
		idx, err := parseIndex(doc)
		if err != nil {
			return document{}, err
		}
		d, err := pick.choose(ref.String(), idx)
		if err != nil {
			return document{}, err
		}
		if err := store.CheckDescriptor(d); err != nil {
			return document{}, fmt.Errorf("index %s: %w", doc.desc.Digest, err)
		}
		if d.Size > maxManifest {
			return document{}, &LengthError{Object: "manifest " + string(d.Digest), Max: maxManifest}
		}
		// Of what the index says of the manifest, only this is of use later.
		d = ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, Platform: d.Platform}
		if doc, err = r.manifest(ctx, ref, d, st); err != nil {
			return document{}, err
		}
	}
	return document{}, &MediaTypeError{"index " + string(doc.desc.Digest), fmt.Sprintf("lies more than %d indexes deep", maxNesting)}
}

// checkPlatform gives the image the platform that its config names, where no
// index did, and compares it with the one wanted: an image without an index may
// be for any.
func (p *Puller) checkPlatform(img *store.Image, pick chooser) error {
	if img.Descriptor.Platform != nil {
		return nil // chosen for it
	}
	if img.Config.Architecture == "" && img.Config.OS == "" {
		return nil
	}
	have := platforms.Normalize(img.Config.Platform)
	img.Descriptor.Platform = &have
	if pick.fits(have) {
		return nil
	}
	err := &PlatformError{Reference: img.Name, Want: platforms.Format(pick.want), Have: []string{printable(platforms.Format(have))}}
	if pick.asked {
		return err
	}
	// Who did not ask may want to look inside all the same.
	p.warn(err.Error())
	return nil
}

// isUpToDate reports whether the store has this image under this name. What it
// has but cannot read counts as missing: the pull writes it anew.
func (f *finding) isUpToDate() bool {
	known, err := f.store.Resolve(f.ref.String())
	if err != nil || known.Source != f.source || known.Descriptor.Digest != f.doc.desc.Digest {
		return false
	}
	for _, l := range f.manifest.Layers {
		if !f.store.Has(l) {
			return false
		}
	}
	return true
}
