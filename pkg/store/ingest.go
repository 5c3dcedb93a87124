package store

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"peel/internal/flock"
	"peel/internal/hashes"
)

// Ingest is one blob on its way into the store. The caller holds it alone: all
// others who want to deliver the same blob wait. Bytes written are kept when a
// transfer breaks off, and the next Ingest of the blob goes on after them.
//
//	Ingest -> Write... -> Commit -> Close
type Ingest struct {
	store   *Store
	desc    ocispec.Descriptor
	file    *os.File // holds the flock
	hash    *hashes.Stream
	off     int64
	arrival *arrival
	closed  bool
}

// Ingest begins, or resumes, the delivery of a blob. It waits while another
// goroutine or process delivers it, and returns ErrExists when the blob is
// there. The caller must Close the Ingest.
func (s *Store) Ingest(ctx context.Context, d ocispec.Descriptor) (*Ingest, error) {
	if err := CheckDescriptor(d); err != nil {
		return nil, err
	}
	path := s.ingestPath(d.Digest)
	for {
		if s.Has(d) {
			return nil, s.settle(d)
		}
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, &Error{err}
		}
		if err := flock.Lock(ctx, f); err != nil {
			f.Close()
			return nil, err
		}
		// Whoever held the lock may have renamed the file into place meanwhile.
		if ours, err := flock.Names(path, f); !ours {
			f.Close()
			if err != nil {
				return nil, &Error{err}
			}
			continue
		}
		if s.Has(d) {
			err := errors.Join(os.Remove(path), f.Close())
			if err != nil {
				return nil, err
			}
			return nil, s.settle(d)
		}
		in := &Ingest{store: s, desc: d, file: f, arrival: s.arrivalOf(d.Digest)}
		if err := in.resume(); err != nil {
			f.Close()
			return nil, err
		}
		return in, nil
	}
}

// settle lets the readers go on that wait for a blob which turned out to be
// stored: another process has delivered it.
func (s *Store) settle(d ocispec.Descriptor) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.arrivals[d.Digest]; a != nil && !a.ended() {
		a.grow(d.Size)
		a.end(nil)
		delete(s.arrivals, d.Digest)
	}
	return ErrExists
}

func (s *Store) arrivalOf(d digest.Digest) *arrival {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.arrivals[d]
	if a == nil || a.ended() {
		a = newArrival()
		s.arrivals[d] = a
	}
	return a
}

// resume hashes what an earlier transfer has left.
func (in *Ingest) resume() error {
	in.hash = hashes.New()
	n, err := io.CopyBuffer(struct{ io.Writer }{in.hash}, io.NewSectionReader(in.file, 0, 1<<62), make([]byte, 256<<10))
	if err != nil {
		return err
	}
	if n > in.desc.Size {
		return in.Reset()
	}
	in.off = n
	if _, err := in.file.Seek(n, io.SeekStart); err != nil {
		return err
	}
	in.arrival.grow(n)
	return nil
}

// Offset is the number of bytes that are there already.
func (in *Ingest) Offset() int64 { return in.off }

// Reset throws away what is there, for a source that can only start over.
func (in *Ingest) Reset() error {
	if err := in.file.Truncate(0); err != nil {
		return err
	}
	if _, err := in.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	in.hash.Reset()
	in.off = 0
	in.arrival.grow(0)
	return nil
}

// Write appends to the blob; whoever follows it sees the bytes at once. More
// bytes than the descriptor promises are a *VerifyError, before they are
// written. On a full disk the partial blob is removed, to leave the room to
// whoever needs it.
func (in *Ingest) Write(p []byte) (int, error) {
	if in.off+int64(len(p)) > in.desc.Size {
		return 0, &VerifyError{Want: in.desc, GotSize: in.off + int64(len(p))}
	}
	n, err := in.file.Write(p)
	in.off += int64(n)
	in.arrival.grow(in.off)
	in.hash.Add(p[:n], nil)
	in.hash.Wait()
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		err = errors.Join(err, in.drop())
	}
	if err != nil {
		err = &Error{err}
	}
	return n, err
}

// Commit checks size and digest and gives the blob its name. Where they are
// wrong it returns *VerifyError, and what had arrived is removed.
func (in *Ingest) Commit() error {
	var bad *VerifyError
	if in.off != in.desc.Size {
		bad = &VerifyError{Want: in.desc, GotSize: in.off}
	} else if got := digest.NewDigest(in.desc.Digest.Algorithm(), in.hash); got != in.desc.Digest {
		bad = &VerifyError{Want: in.desc, GotSize: in.off, GotDigest: got}
	}
	s := in.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if bad != nil {
		in.arrival.end(bad)
		delete(s.arrivals, in.desc.Digest)
		return errors.Join(bad, in.drop())
	}
	if err := os.Rename(in.file.Name(), s.blobPath(in.desc.Digest)); err != nil {
		return &Error{err}
	}
	in.arrival.end(nil)
	delete(s.arrivals, in.desc.Digest)
	return nil
}

func (in *Ingest) drop() error {
	return errors.Join(os.Remove(in.file.Name()), in.file.Truncate(0))
}

// Close lets others deliver the blob. It may be called again.
func (in *Ingest) Close() error {
	if in.closed {
		return nil
	}
	in.closed = true
	return in.file.Close()
}
