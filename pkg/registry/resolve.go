package registry

import (
	"context"
	"fmt"

	"github.com/containerd/platforms"
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
	source := doc.desc.Digest
	pick := newChooser(p.o.Platform)
	if doc, err = repo.descend(ctx, ref, doc, pick, st); err != nil {
		return nil, err
	}
	img, err := repo.image(ctx, doc, st)
	if err != nil {
		return nil, err
	}
	img.Name, img.Source = ref.String(), source
	if err := p.checkPlatform(img, pick); err != nil {
		return nil, err
	}
	p.o.Progress.Send(progress.Event{Kind: progress.Resolved, Image: ref.String(), Digest: source, Message: ref.Path()})
	return &Remote{Reference: ref, Image: img, UpToDate: upToDate(img, st), repo: repo}, nil
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

func (r *repository) image(ctx context.Context, doc document, st *store.Store) (*store.Image, error) {
	m, err := store.ParseManifest(doc.desc, doc.bytes)
	if err != nil {
		return nil, err
	}
	config, err := r.config(ctx, m.Config, st)
	if err != nil {
		return nil, err
	}
	return store.NewImage(doc.desc, doc.bytes, config)
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

func upToDate(img *store.Image, st *store.Store) bool {
	known, err := st.Resolve(img.Name)
	if err != nil || known.Source != img.Source || known.Descriptor.Digest != img.Descriptor.Digest {
		return false // damaged counts as missing: the pull writes it anew
	}
	for _, l := range img.Manifest.Layers {
		if !st.Has(l) {
			return false
		}
	}
	return true
}
