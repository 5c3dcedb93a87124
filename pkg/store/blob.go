package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxSmallBlob bounds the blobs that are read whole: manifests, indexes, configs.
const maxSmallBlob = 8 << 20

// Has reports whether the blob is stored, with the size that d gives.
func (s *Store) Has(d ocispec.Descriptor) bool {
	if CheckDescriptor(d) != nil {
		return false
	}
	fi, err := os.Lstat(s.blobPath(d.Digest))
	return err == nil && fi.Mode().IsRegular() && fi.Size() == d.Size
}

// Blob opens a stored blob, or one that is being ingested in this process: then
// Read waits for bytes that have not arrived yet, and returns io.EOF only when
// the blob's size and digest have been checked, and its *VerifyError otherwise.
// Where a transfer starts over, what was read before may have been other bytes
// than those checked: compare the DiffID.
// A blob that is neither is ErrNotFound. Cancelling ctx ends a waiting Read.
func (s *Store) Blob(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	return s.blob(ctx, d, false)
}

// Follower is a view of a store that expects more blobs to arrive.
type Follower struct{ s *Store }

// Follow returns the store as its readers see it during a pull: Blob waits also
// for a blob whose delivery has not begun, until it arrives or ctx ends. Cancel
// ctx when the pull fails.
func (s *Store) Follow() Follower { return Follower{s} }

// Blob is Store.Blob, but for blobs that nobody has begun to deliver yet.
func (f Follower) Blob(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	return f.s.blob(ctx, d, true)
}

func (s *Store) blob(ctx context.Context, d ocispec.Descriptor, expected bool) (io.ReadCloser, error) {
	if err := CheckDescriptor(d); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// Under s.mu no arrival can end, so a blob is seen in one place or the other.
	if s.Has(d) {
		return os.Open(s.blobPath(d.Digest))
	}
	a := s.arrivals[d.Digest]
	if a == nil || a.ended() {
		if !expected {
			return nil, fmt.Errorf("blob %s: %w", d.Digest, ErrNotFound)
		}
		a = newArrival()
		s.arrivals[d.Digest] = a
	}
	return &followReader{ctx: ctx, store: s, digest: d.Digest, arrival: a}, nil
}

// DamagedError reports a stored blob that is no longer what it was when it was
// stored. WriteBlob repairs it.
type DamagedError struct{ Digest digest.Digest }

func (e *DamagedError) Error() string { return fmt.Sprintf("blob %s: is damaged on disk", e.Digest) }

// ReadBlob returns a small blob, checked against d once more: *DamagedError.
func (s *Store) ReadBlob(d ocispec.Descriptor) ([]byte, error) {
	if err := CheckDescriptor(d); err != nil {
		return nil, err
	}
	if d.Size > maxSmallBlob {
		return nil, fmt.Errorf("blob %s: %d bytes, more than the %d that a manifest or config may have", d.Digest, d.Size, maxSmallBlob)
	}
	b, err := os.ReadFile(s.blobPath(d.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	if verify(d, b) != nil {
		return nil, &DamagedError{d.Digest}
	}
	return b, nil
}

func verify(d ocispec.Descriptor, b []byte) error {
	if int64(len(b)) != d.Size {
		return &VerifyError{Want: d, GotSize: int64(len(b))}
	}
	if got := digest.FromBytes(b); got != d.Digest {
		return &VerifyError{Want: d, GotSize: d.Size, GotDigest: got}
	}
	return nil
}

// WriteBlob stores a small blob after checking it: *VerifyError where it is not
// what d says. A blob that is stored already is no error; one that is damaged is
// written anew.
func (s *Store) WriteBlob(ctx context.Context, d ocispec.Descriptor, b []byte) error {
	if err := CheckDescriptor(d); err != nil {
		return err
	}
	if err := verify(d, b); err != nil {
		return err
	}
	in, err := s.Ingest(ctx, d)
	if errors.Is(err, ErrExists) {
		var damaged *DamagedError
		if _, err := s.ReadBlob(d); !errors.As(err, &damaged) {
			return err
		}
		if err := os.Remove(s.blobPath(d.Digest)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return s.WriteBlob(ctx, d, b)
	}
	if err != nil {
		return err
	}
	defer in.Close()
	if err := in.Reset(); err != nil {
		return err
	}
	if _, err := in.Write(b); err != nil {
		return err
	}
	return in.Commit()
}

// DropDamaged checks every layer of img against its digest and removes the
// blobs that no longer match, so that a pull fetches them again. It reads all of
// them: call it to find out why an unpack failed.
func (s *Store) DropDamaged(ctx context.Context, img *Image) (dropped []digest.Digest, err error) {
	for _, d := range img.Manifest.Layers {
		ok, err := s.intact(ctx, d)
		if err != nil {
			return dropped, err
		}
		if ok {
			continue
		}
		err = os.Remove(s.blobPath(d.Digest))
		if errors.Is(err, fs.ErrNotExist) {
			continue // never came, or was removed before
		}
		if err != nil {
			return dropped, err
		}
		dropped = append(dropped, d.Digest)
	}
	return dropped, nil
}

func (s *Store) intact(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	if !s.Has(d) {
		return false, nil
	}
	f, err := os.Open(s.blobPath(d.Digest))
	if err != nil {
		return false, err
	}
	defer f.Close()
	v := d.Digest.Verifier()
	buf := make([]byte, 256<<10)
	for {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		n, err := f.Read(buf)
		v.Write(buf[:n])
		if err == io.EOF {
			return v.Verified(), nil
		}
		if err != nil {
			return false, err
		}
	}
}
