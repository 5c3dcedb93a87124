package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/internal/flock"
)

// annotationSource, on a descriptor of index.json, is the digest that the
// reference had at its registry: the index's, where the manifest came from one.
const annotationSource = "peel.source.digest"

const dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"

// Tag gives img the name, taking it from the image that had it.
func (s *Store) Tag(ctx context.Context, name string, img *Image) error {
	return s.editIndex(ctx, func(idx *ocispec.Index) error {
		d := img.Descriptor
		d.Annotations = map[string]string{ocispec.AnnotationRefName: name, annotationSource: img.Source.String()}
		if i := indexOf(idx, name); i >= 0 {
			idx.Manifests[i] = d
		} else {
			idx.Manifests = append(idx.Manifests, d)
		}
		return nil
	})
}

// Resolve returns the image that has the name: ErrNotFound where none has. Of
// REPOSITORY@DIGEST it is enough that the image has another name of the repository's.
func (s *Store) Resolve(name string) (*Image, error) {
	idx, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	i := find(idx, name)
	if i < 0 {
		return nil, fmt.Errorf("image %s: %w", name, ErrNotFound)
	}
	img, err := s.load(idx.Manifests[i])
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", name, err)
	}
	return img, nil
}

// Images returns all named images in the order of their names. Images that
// cannot be read are left out and reported by the error, beside the others.
func (s *Store) Images() ([]*Image, error) {
	idx, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	var imgs []*Image
	var errs []error
	for _, d := range idx.Manifests {
		name := d.Annotations[ocispec.AnnotationRefName]
		if name == "" || d.MediaType != ocispec.MediaTypeImageManifest && d.MediaType != dockerManifest {
			continue // not an image of ours; other tools may keep what they like here
		}
		img, err := s.load(d)
		if err != nil {
			errs = append(errs, fmt.Errorf("image %s: %w", name, err))
			continue
		}
		imgs = append(imgs, img)
	}
	slices.SortFunc(imgs, func(a, b *Image) int { return strings.Compare(a.Name, b.Name) })
	return imgs, errors.Join(errs...)
}

// load reads the image whose manifest d describes, a stored one.
func (s *Store) load(d ocispec.Descriptor) (*Image, error) {
	manifest, err := s.ReadBlob(d)
	if err != nil {
		return nil, err
	}
	m, err := ParseManifest(d, manifest)
	if err != nil {
		return nil, err
	}
	config, err := s.ReadBlob(m.Config)
	if err != nil {
		return nil, err
	}
	name := d.Annotations[ocispec.AnnotationRefName]
	source := digest.Digest(d.Annotations[annotationSource])
	d.Annotations = nil
	img, err := NewImage(d, manifest, config)
	if err != nil {
		return nil, err
	}
	img.Name = name
	if source.Validate() == nil {
		img.Source = source
	}
	return img, nil
}

func indexOf(idx *ocispec.Index, name string) int {
	return slices.IndexFunc(idx.Manifests, func(d ocispec.Descriptor) bool {
		return d.Annotations[ocispec.AnnotationRefName] == name
	})
}

// find is indexOf, and finds REPOSITORY@DIGEST under any name of the repository's.
func find(idx *ocispec.Index, name string) int {
	i := indexOf(idx, name)
	repo, id, ok := strings.Cut(name, "@")
	if i >= 0 || !ok {
		return i
	}
	return slices.IndexFunc(idx.Manifests, func(d ocispec.Descriptor) bool {
		tag, of := strings.CutPrefix(d.Annotations[ocispec.AnnotationRefName], repo+":")
		return of && !strings.Contains(tag, "/") && (d.Digest.String() == id || d.Annotations[annotationSource] == id)
	})
}

// IndexError reports an index.json that cannot be parsed, which is nothing that
// a Store has written.
type IndexError struct {
	Path string
	Err  error
}

func (e *IndexError) Error() string { return fmt.Sprintf("store: %s: %v", e.Path, e.Err) }
func (e *IndexError) Unwrap() error { return e.Err }

func (s *Store) indexPath() string { return filepath.Join(s.layout, ocispec.ImageIndexFile) }

func (s *Store) readIndex() (*ocispec.Index, error) {
	b, err := os.ReadFile(s.indexPath())
	if err != nil {
		return nil, &Error{err}
	}
	var idx ocispec.Index
	if err := json.Unmarshal(b, &idx); err != nil {
		return nil, &IndexError{s.indexPath(), err}
	}
	return &idx, nil
}

// editIndex rewrites index.json as one step that nobody else interrupts.
func (s *Store) editIndex(ctx context.Context, edit func(*ocispec.Index) error) error {
	unlock, err := s.lockIndex(ctx)
	if err != nil {
		return &Error{err}
	}
	defer unlock()
	idx, err := s.readIndex()
	if err != nil {
		return err
	}
	if err := edit(idx); err != nil {
		return err
	}
	if err := s.writeIndex(idx); err != nil {
		return &Error{err}
	}
	return nil
}

func (s *Store) lockIndex(ctx context.Context) (unlock func() error, err error) {
	f, err := os.OpenFile(filepath.Join(s.root, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock.Lock(ctx, f); err != nil {
		f.Close()
		return nil, err
	}
	return f.Close, nil
}

func (s *Store) writeIndex(idx *ocispec.Index) error {
	b, err := json.MarshalIndent(idx, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(s.indexPath(), append(b, '\n'))
}

func (s *Store) initLayout() error {
	marker := filepath.Join(s.layout, ocispec.ImageLayoutFile)
	_, markerErr := os.Lstat(marker)
	_, indexErr := os.Lstat(s.indexPath())
	if err := errors.Join(markerErr, indexErr); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	unlock, err := s.lockIndex(context.Background())
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Lstat(s.indexPath()); errors.Is(err, fs.ErrNotExist) {
		empty := &ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
		if err := s.writeIndex(empty); err != nil {
			return err
		}
	}
	b, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return err
	}
	return writeFile(marker, b) // last, as other tools take it for the sign of a layout
}

// writeFile gives path new content in one step that a crash or a power cut
// either has done or has not. The caller holds the lock: there is one temporary
// name, so that whatever a crash leaves behind is used up by the next write.
func writeFile(path string, b []byte) error {
	f, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		os.Remove(f.Name())
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
