package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"peel/internal/flock"
)

// ErrInUse: another process has the store open, and may be about to name the
// blobs that it has just fetched.
var ErrInUse = errors.New("the store is in use")

// Untag takes a name away from its image. Its blobs stay until Prune:
// ErrNotFound where no image has the name.
func (s *Store) Untag(ctx context.Context, name string) error {
	return s.editIndex(ctx, func(idx *ocispec.Index) error {
		i := indexOf(idx, name)
		if i < 0 {
			return fmt.Errorf("image %s: %w", name, ErrNotFound)
		}
		idx.Manifests = slices.Delete(idx.Manifests, i, i+1)
		return nil
	})
}

// Pruned is what Prune has removed.
type Pruned struct {
	Blobs int
	Bytes int64
}

// Prune removes the blobs that no name leads to, those of without, to which names
// may lead, and what interrupted transfers have left. It does so only while nobody
// else has the store open: ErrInUse.
func (s *Store) Prune(ctx context.Context, without map[digest.Digest]bool) (Pruned, error) {
	var p Pruned
	if err := s.exclude(); err != nil {
		return p, err
	}
	defer s.readmit()
	idx, err := s.readIndex()
	if err != nil {
		return p, err
	}
	keep := map[digest.Digest]bool{}
	for _, d := range idx.Manifests {
		if err := s.mark(d, keep, 0); err != nil {
			return p, fmt.Errorf("image %s: %w", d.Annotations[ocispec.AnnotationRefName], err)
		}
		// The index that an image was chosen from: without it the next pull would
		// have to fetch it to find that nothing has changed.
		keep[digest.Digest(d.Annotations[annotationSource])] = true
	}
	err = p.sweep(ctx, filepath.Join(s.layout, "blobs", "sha256"), func(name string) bool {
		d := digest.NewDigestFromEncoded(digest.SHA256, name)
		return keep[d] && !without[d]
	})
	if err != nil {
		return p, err
	}
	return p, p.sweep(ctx, filepath.Join(s.layout, "ingest"), func(string) bool { return false })
}

func (p *Pruned) sweep(ctx context.Context, dir string, keep func(name string) bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if keep(e.Name()) {
			continue
		}
		fi, err := e.Info()
		if err == nil {
			err = os.Remove(filepath.Join(dir, e.Name()))
		}
		if err != nil {
			return err
		}
		p.Blobs++
		p.Bytes += fi.Size()
	}
	return nil
}

// maxNesting is how deep indexes of other tools may lie within each other.
const maxNesting = 8

// mark notes d and all that it leads to. A manifest that is missing leads
// nowhere; one that cannot be read stops the pruning, since nobody knows what
// it leads to.
func (s *Store) mark(d ocispec.Descriptor, keep map[digest.Digest]bool, depth int) error {
	if depth > maxNesting {
		return fmt.Errorf("index %s lies more than %d indexes deep", d.Digest, maxNesting)
	}
	if keep[d.Digest] {
		return nil
	}
	keep[d.Digest] = true
	b, err := s.ReadBlob(d)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	// Whatever the document is, a manifest or an index: this is how they refer.
	var doc struct {
		Config    ocispec.Descriptor   `json:"config"`
		Layers    []ocispec.Descriptor `json:"layers"`
		Manifests []ocispec.Descriptor `json:"manifests"`
		Subject   ocispec.Descriptor   `json:"subject"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		return fmt.Errorf("%s: %w", d.Digest, err)
	}
	keep[doc.Config.Digest] = true
	for _, l := range doc.Layers {
		keep[l.Digest] = true
	}
	for _, m := range append(doc.Manifests, doc.Subject) {
		if m.Digest == "" {
			continue
		}
		if err := s.mark(m, keep, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// An open store holds the shared flock of ROOT/users, Prune the exclusive one.
// So no blob is removed between its arrival and its name.
func (s *Store) admit() error {
	path := filepath.Join(s.root, "users")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, unix.EROFS) {
		f, err = os.Open(path) // enough to read the store
	}
	if err != nil {
		return err
	}
	if err := flock.Share(f); err != nil {
		f.Close()
		return err
	}
	s.users = f
	return nil
}

func (s *Store) exclude() error {
	ok, err := flock.Try(s.users)
	if !ok {
		// The attempt has given up the shared lock.
		return errors.Join(cmp.Or(err, ErrInUse), s.readmit())
	}
	return nil
}

func (s *Store) readmit() error { return flock.Share(s.users) }
