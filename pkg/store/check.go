package store

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"peel/internal/flock"
)

// What can be said of a file that should not be as it is.
type What string

const (
	// Damaged is a file that is not what its name says.
	Damaged What = "damaged"
	// Missing is a file that something else needs.
	Missing What = "missing"
	// Unused is a file that is right, and that nothing needs.
	Unused What = "unused"
	// Partial is what an interrupted command has left.
	Partial What = "partial"
	// Unknown is a file that peel has not made.
	Unknown What = "unknown"
)

// Finding is what a check has found of one file.
type Finding struct {
	What What
	Path string
	// Digest is what the file's name says; empty where that says nothing.
	Digest digest.Digest
	// Images need the file: their names, sorted.
	Images []string
	// DiffIDs is what a layer's blob holds, as the configs of Images say.
	DiffIDs []digest.Digest
}

// Harm tells whether something does not work for it.
func (f Finding) Harm() bool { return f.What == Damaged || f.What == Missing }

// Checked counts what a check has read.
type Checked struct {
	Files int
	Bytes int64
}

// Check reads every blob and compares it with its digest, jobs at a time, and looks
// for what images lack and for what nothing needs. It changes nothing. The findings
// come sorted by path.
func (s *Store) Check(ctx context.Context, jobs int) ([]Finding, Checked, error) {
	refs, err := s.references()
	if err != nil {
		return nil, Checked{}, err
	}
	dir := filepath.Join(s.layout, "blobs", "sha256")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, Checked{}, &Error{err}
	}
	var (
		mu       sync.Mutex
		findings []Finding // guarded by mu
		done     Checked   // guarded by mu
	)
	found := func(f Finding) {
		mu.Lock()
		defer mu.Unlock()
		findings = append(findings, f)
	}
	there := map[digest.Digest]bool{}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(max(jobs, 1))
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		d := digest.NewDigestFromEncoded(digest.SHA256, e.Name())
		if d.Validate() != nil || !e.Type().IsRegular() {
			found(Finding{What: Unknown, Path: path})
			continue
		}
		there[d] = true
		g.Go(func() error {
			n, ok, err := sound(gctx, path, d)
			mu.Lock()
			done.Files++
			done.Bytes += n
			mu.Unlock()
			switch {
			case err != nil:
				return err
			case !ok:
				found(refs.finding(Damaged, path, d))
			case !refs.leadTo(d):
				found(Finding{What: Unused, Path: path, Digest: d})
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, done, err
	}
	for d := range refs.needs {
		if !there[d] {
			findings = append(findings, refs.finding(Missing, s.blobPath(d), d))
		}
	}
	partial, err := s.partial()
	if err != nil {
		return nil, done, err
	}
	findings = append(findings, partial...)
	slices.SortFunc(findings, func(a, b Finding) int { return strings.Compare(a.Path, b.Path) })
	return findings, done, nil
}

// sound tells whether a file has the digest. One that cannot be read has not; one
// that has just been removed is nobody's worry.
func sound(ctx context.Context, path string, d digest.Digest) (n int64, ok bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, true, nil
	}
	if err != nil {
		return 0, false, nil
	}
	defer f.Close()
	v := d.Verifier()
	buf := make([]byte, 256<<10)
	for {
		if err := ctx.Err(); err != nil {
			return n, false, context.Cause(ctx)
		}
		got, err := f.Read(buf)
		v.Write(buf[:got])
		n += int64(got)
		if err == io.EOF {
			return n, v.Verified(), nil
		}
		if err != nil {
			return n, false, nil
		}
	}
}

// references is what index.json leads to.
type references struct {
	// keep is all of it. unsure: there may be more, behind what cannot be read.
	keep   map[digest.Digest]bool
	unsure bool
	// needs is what images consist of.
	needs map[digest.Digest]*need
}

type need struct {
	images  map[string]bool
	diffIDs []digest.Digest
}

func (r *references) leadTo(d digest.Digest) bool { return r.unsure || r.keep[d] }

func (r *references) finding(w What, path string, d digest.Digest) Finding {
	f := Finding{What: w, Path: path, Digest: d}
	if n := r.needs[d]; n != nil {
		f.Images, f.DiffIDs = slices.Sorted(maps.Keys(n.images)), n.diffIDs
	}
	return f
}

func (r *references) need(name string, d digest.Digest, diffID ...digest.Digest) {
	n := r.needs[d]
	if n == nil {
		n = &need{images: map[string]bool{}}
		r.needs[d] = n
	}
	n.images[name] = true
	for _, id := range diffID {
		if !slices.Contains(n.diffIDs, id) {
			n.diffIDs = append(n.diffIDs, id)
		}
	}
}

func (s *Store) references() (*references, error) {
	idx, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	r := &references{keep: map[digest.Digest]bool{}, needs: map[digest.Digest]*need{}}
	for _, d := range idx.Manifests {
		r.unsure = s.mark(d, r.keep, 0) != nil || r.unsure
		r.keep[digest.Digest(d.Annotations[annotationSource])] = true
		name := d.Annotations[ocispec.AnnotationRefName]
		if name == "" || d.MediaType != ocispec.MediaTypeImageManifest && d.MediaType != dockerManifest || CheckDescriptor(d) != nil {
			continue // see Images
		}
		r.need(name, d.Digest)
		b, err := s.ReadBlob(d)
		if err != nil {
			continue // found when all blobs are read
		}
		m, err := parseManifest(d, b)
		if err != nil {
			continue
		}
		r.need(name, m.Config.Digest)
		var config ocispec.Image
		if b, err := s.ReadBlob(m.Config); err == nil {
			_ = json.Unmarshal(b, &config) // then nothing is known of the layers' DiffIDs
		}
		for i, l := range m.Layers {
			if i < len(config.RootFS.DiffIDs) {
				r.need(name, l.Digest, config.RootFS.DiffIDs[i])
			} else {
				r.need(name, l.Digest)
			}
		}
	}
	return r, nil
}

// partial is what interrupted transfers have left. What is locked is on its way.
func (s *Store) partial() (findings []Finding, err error) {
	dir := filepath.Join(s.layout, "ingest")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, &Error{err}
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if f, err := os.Open(path); err == nil {
			free, err := flock.Try(f)
			f.Close()
			if err == nil && !free {
				continue
			}
		}
		findings = append(findings, Finding{What: Partial, Path: path})
	}
	return findings, nil
}

// Drop removes the blobs of those findings that are damaged, so that a pull fetches
// them again, and returns how many that were.
func (s *Store) Drop(findings []Finding) (n int, err error) {
	for _, f := range findings {
		if f.What != Damaged || CheckDescriptor(ocispec.Descriptor{Digest: f.Digest}) != nil {
			continue
		}
		err := os.Remove(s.blobPath(f.Digest))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return n, &Error{err}
		}
		n++
	}
	return n, nil
}
