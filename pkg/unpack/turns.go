package unpack

import (
	"context"
	"io"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/pkg/progress"
	"peel/pkg/store"

	"golang.org/x/sys/unix"
)

// turns bounds how many layers are unpacked at a time. Of those that wait, the
// largest goes first, as it will take longest. A layer waits only once its first
// bytes are there, so that one whose blob has not begun to arrive holds up nobody.
type turns struct {
	mu      sync.Mutex
	free    int
	waiting []*waiter
}

type waiter struct {
	size int64
	turn chan struct{} // closed when it is
}

func newTurns(n int) *turns { return &turns{free: n} }

func (t *turns) take(ctx context.Context, size int64) error {
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

func (t *turns) give() {
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

// meter reports how much of a blob has been read.
type meter struct {
	r       io.Reader
	d       ocispec.Descriptor
	f       progress.Func
	n, told int64
}

// meterStep is how many bytes make an event: a few hundred for a large layer.
const meterStep = 1 << 20

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.n += int64(n)
	if m.n-m.told >= meterStep {
		m.told = m.n
		m.f.Send(progress.Event{Kind: progress.Unpacking, Digest: m.d.Digest, Current: m.n, Total: m.d.Size})
	}
	return n, err
}

// room refuses an image that cannot fit: it takes more than its blobs do, almost
// without exception, and finding out late costs the user minutes.
func (st *staging) room(img *store.Image) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(st.fd(), &fs); err != nil {
		return err
	}
	need := int64(0)
	for _, d := range img.Manifest.Layers {
		need += d.Size
	}
	if free := int64(fs.Bfree) * fs.Bsize; fs.Blocks > 0 && need > free {
		return &SpaceError{Need: need, Free: free}
	}
	return nil
}
