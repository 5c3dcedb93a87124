package changeset

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/pkg/layers"
	"peel/pkg/progress"
)

// Blobs is where the layers come from; a *store.Store is one.
type Blobs interface {
	// Blob opens the blob that d describes. It may still be arriving: then Read
	// waits for more, and gives io.EOF only once the blob's size and digest have
	// been checked. When ctx ends, a Read that waits returns.
	Blob(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error)
}

// Tars is what Blobs may be as well: where layers are that have been decompressed.
type Tars interface {
	// Tar opens a layer's tar, which has size bytes; nil where there is none. It is
	// the reader's to find out whether it still has its DiffID.
	Tar(diffID digest.Digest) (tar io.ReadCloser, size int64, err error)
}

// Layer is a layer that is being read.
type Layer struct {
	*layers.Reader
	from   io.Closer
	cancel context.CancelFunc
}

// OpenLayer opens a layer: its tar where src has that, else its blob. It returns when
// the first bytes are there.
func OpenLayer(ctx context.Context, src Blobs, d ocispec.Descriptor, diffID digest.Digest, report progress.Func) (*Layer, error) {
	if tars, ok := src.(Tars); ok {
		tar, size, err := tars.Tar(diffID)
		if err != nil {
			return nil, err
		}
		if tar != nil {
			d.Size = size // for the meter
			return &Layer{layers.OpenTar(&Meter{Reader: tar, Blob: d, Progress: report}), tar, func() {}}, nil
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	blob, err := src.Blob(ctx, d)
	if err != nil {
		cancel()
		return nil, err
	}
	r, err := layers.Open(d.MediaType, &Meter{Reader: blob, Blob: d, Progress: report})
	if err != nil {
		cancel()
		return nil, errors.Join(err, blob.Close())
	}
	if r.Actual != r.Declared {
		report.Send(progress.Event{Kind: progress.Warning, Digest: d.Digest,
			Message: "the layer is labelled " + string(r.Declared) + " and is " + string(r.Actual)})
	}
	return &Layer{r, blob, cancel}, nil
}

// Close ends the reading, wherever it is.
func (l *Layer) Close() error {
	l.cancel() // or the Reader would wait for bytes that nobody needs any more
	l.Reader.Close()
	return l.from.Close()
}

// Turns bounds how many layers are worked on at a time. Of those that wait, the
// largest goes first, as it will Take longest. A layer waits only once its first
// bytes are there, so that one whose blob has not begun to arrive holds up nobody.
type Turns struct {
	mu      sync.Mutex
	free    int
	waiting []*waiter
}

type waiter struct {
	size int64
	turn chan struct{} // closed when it is
}

// NewTurns lets n layers go at a time.
func NewTurns(n int) *Turns { return &Turns{free: n} }

// Take waits for a turn, which the caller must give back unless there is an error.
// size is that of the layer's blob.
func (t *Turns) Take(ctx context.Context, size int64) error {
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return nil
	}
	w := &waiter{size: size, turn: make(chan struct{})}
	t.waiting = append(t.waiting, w)
	t.mu.Unlock()
	select {
	case <-w.turn:
		return nil
	case <-ctx.Done():
		return ctx.Err() // everything ends: nobody needs the turn any more
	}
}

// Give gives a turn back.
func (t *Turns) Give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 {
		t.free++
		return
	}
	largest := 0
	for i, w := range t.waiting {
		if w.size > t.waiting[largest].size {
			largest = i
		}
	}
	close(t.waiting[largest].turn)
	last := len(t.waiting) - 1
	t.waiting[largest] = t.waiting[last]
	t.waiting = t.waiting[:last]
}

// Meter reads a blob and reports how much of it has been read.
type Meter struct {
	Reader   io.Reader
	Blob     ocispec.Descriptor
	Progress progress.Func

	n, told int64
}

// meterStep is how many bytes make an event: a few hundred for a large layer.
const meterStep = 1 << 20

func (m *Meter) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	m.n += int64(n)
	if m.n-m.told >= meterStep {
		m.told = m.n
		m.Progress.Send(progress.Event{Kind: progress.Unpacking, Digest: m.Blob.Digest, Current: m.n, Total: m.Blob.Size})
	}
	return n, err
}
