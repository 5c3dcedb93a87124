package registry

import (
	"fmt"
	"slices"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/pkg/store"
)

// ParsePlatform reads "os/arch" or "os/arch/variant", either of os and arch
// alone, and the other names that architectures go by (x86_64, aarch64, armhf).
func ParsePlatform(s string) (ocispec.Platform, error) {
	p, err := platforms.Parse(s)
	if err != nil {
		return ocispec.Platform{}, fmt.Errorf("platform %q: want os/arch or os/arch/variant, such as linux/arm64", s)
	}
	return platforms.Normalize(p), nil
}

// chooser says which platforms will do, and which of two is better.
type chooser struct {
	want  ocispec.Platform
	asked bool // by the user, not just the host's own
	rank  platforms.MatchComparer
}

func newChooser(want ocispec.Platform) chooser {
	asked := want.OS != "" || want.Architecture != ""
	if !asked {
		want = platforms.DefaultSpec()
	}
	want = platforms.Normalize(want)
	return chooser{want: want, asked: asked, rank: platforms.Only(want)}
}

// fits: the platform's own variant or an older one. The host's processor may
// also run another architecture (386 on amd64, arm on arm64), but who asks for
// a platform by name gets that one.
func (c chooser) fits(p ocispec.Platform) bool {
	p = platforms.Normalize(p)
	return c.rank.Match(p) && (!c.asked || p.Architecture == c.want.Architecture)
}

// Fits reports whether a stored image is for the platform that the Puller is
// asked for; any is, where none was asked for.
func (p *Puller) Fits(img *store.Image) bool {
	pick := newChooser(p.o.Platform)
	return !pick.asked || img.Descriptor.Platform != nil && pick.fits(*img.Descriptor.Platform)
}

// choose returns the best of an index's manifests; of equals, the first.
func (c chooser) choose(reference string, idx *ocispec.Index) (ocispec.Descriptor, error) {
	var images, fit []ocispec.Descriptor
	for _, d := range idx.Manifests {
		if !isImage(d) {
			continue
		}
		images = append(images, d)
		if d.Platform != nil && c.fits(*d.Platform) {
			fit = append(fit, d)
		}
	}
	if len(fit) == 0 && len(images) == 1 && images[0].Platform == nil {
		return images[0], nil // whose config will tell
	}
	if len(fit) == 0 {
		return ocispec.Descriptor{}, &PlatformError{Reference: reference, Want: platforms.Format(c.want), Have: names(images)}
	}
	slices.SortStableFunc(fit, func(a, b ocispec.Descriptor) int {
		switch {
		case c.rank.Less(*a.Platform, *b.Platform):
			return -1
		case c.rank.Less(*b.Platform, *a.Platform):
			return 1
		}
		return 0
	})
	return fit[0], nil
}

// isImage leaves out what lies beside the images of an index: attestations,
// which buildkit puts there under a platform that is none, and other artifacts.
func isImage(d ocispec.Descriptor) bool {
	if _, ok := d.Annotations["vnd.docker.reference.type"]; ok {
		return false
	}
	if d.Platform != nil && (d.Platform.OS == "unknown" || d.Platform.Architecture == "unknown") {
		return false
	}
	return isManifestType(d.MediaType) || isIndexType(d.MediaType)
}

func names(ds []ocispec.Descriptor) []string {
	var have []string
	for _, d := range ds {
		if d.Platform == nil {
			have = append(have, "unnamed")
			continue
		}
		have = append(have, printable(platforms.Format(*d.Platform)))
	}
	slices.Sort(have)
	return slices.Compact(have)
}
