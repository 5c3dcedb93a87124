package store

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"
)

// arrival is what this process knows of a blob on its way in. Its readers wait
// on it; an Ingest moves it on. It outlives a failed transfer, since the next
// attempt goes on from the same file.
type arrival struct {
	mu    sync.Mutex
	moved chan struct{} // guarded by mu; closed and replaced at every change
	size  int64         // guarded by mu; bytes that may be read
	done  bool          // guarded by mu; no further change will come
	err   error         // guarded by mu; why not, where done without success
}

func newArrival() *arrival { return &arrival{moved: make(chan struct{})} }

func (a *arrival) grow(size int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.size = size
	a.announce()
}

func (a *arrival) end(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.done, a.err = true, err
	a.announce()
}

func (a *arrival) announce() {
	close(a.moved)
	a.moved = make(chan struct{})
}

func (a *arrival) ended() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.done
}

// wait returns when bytes beyond off can be read (n > 0), when all has been
// read and checked (io.EOF), or when neither will ever be.
func (a *arrival) wait(ctx context.Context, off int64) (n int64, err error) {
	for {
		a.mu.Lock()
		n, done, err, moved := a.size-off, a.done, a.err, a.moved
		a.mu.Unlock()
		switch {
		case err != nil:
			return 0, err
		case n > 0:
			return n, nil
		case done:
			return 0, io.EOF
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// followReader reads the file that an Ingest is writing. It holds a descriptor
// of its own, which stays good when Commit renames the file.
type followReader struct {
	ctx     context.Context // of the call that opened it, as for an http body
	store   *Store
	digest  digest.Digest
	arrival *arrival
	file    *os.File
	off     int64
}

func (r *followReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := r.arrival.wait(r.ctx, r.off)
	if err != nil {
		return 0, err
	}
	if r.file == nil {
		if r.file, err = r.store.openArriving(r.digest); err != nil {
			return 0, err
		}
	}
	got, err := r.file.ReadAt(p[:min(int64(len(p)), n)], r.off)
	r.off += int64(got)
	if got > 0 || errors.Is(err, io.EOF) {
		// An end before what the arrival promised is a transfer that starts over.
		err = nil
	}
	return got, err
}

func (r *followReader) Close() error {
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}

func (s *Store) openArriving(d digest.Digest) (*os.File, error) {
	s.mu.Lock() // a Commit renames under it
	defer s.mu.Unlock()
	f, err := os.Open(s.blobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		f, err = os.Open(s.ingestPath(d))
	}
	return f, err
}
