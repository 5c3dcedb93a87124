package hashes

import (
	"crypto/sha256"
	"runtime"
	"slices"
	"sync"
)

// hall is where streams wait to be hashed, and those who hash them.
type hall struct {
	mu      sync.Mutex
	waiting []*Stream // guarded by mu; have pieces that no worker is at; the longest first
	workers int       // guarded by mu
}

// everyone is the process's one hall: whose streams they are does not matter.
var everyone hall

// slice is how many bytes of a stream are hashed before a worker looks for
// another one to go along: some 20 µs.
const slice = 32 << 10

// patience is how many pieces a stream has that goes without company where
// processors are few. One less than may wait: its owner goes on meanwhile.
const patience = depth - 1

// due tells whether s is hashed now even if no other stream can go along: its
// owner waits, or soon will, or processors are plenty. hall.mu is held.
func (s *Stream) due() bool {
	return s.awaited || len(s.pieces) >= patience || !canPair() || most() > 1
}

// ready tells whether something is to be hashed now. mu is held.
func (h *hall) ready() bool {
	return len(h.waiting) > 1 || len(h.waiting) == 1 && h.waiting[0].due()
}

// call starts a worker if there is work for one. mu is held.
func (h *hall) call() {
	if h.workers < most() && h.ready() {
		h.workers++
		go h.work()
	}
}

// most is how many workers there may be. To decode a layer takes longer than to
// hash it and its blob, so half of the processors are enough, two streams each.
// Where they cannot be paired, there is nothing to wait for.
func most() int {
	if !canPair() {
		return runtime.GOMAXPROCS(0)
	}
	return max(1, runtime.GOMAXPROCS(0)/2)
}

// seat is a stream at a worker, with what is left of its first piece.
type seat struct {
	*Stream
	left  []byte
	owner Owner
}

// work hashes until nothing is to be hashed now. Each stream that it takes goes on
// for a piece and then to the end of the line.
func (h *hall) work() {
	var a, b seat
	h.mu.Lock()
	for {
		h.fill(&a, &b)
		if a.Stream == nil {
			h.workers--
			h.mu.Unlock()
			return
		}
		h.mu.Unlock()
		hashSome(&a, &b)
		a.giveBack()
		b.giveBack()
		h.mu.Lock()
		h.rise(&a)
		h.rise(&b)
	}
}

// fill has streams take a worker's free seats, the first one first. The second is
// only used when there are as many workers as there may be. mu is held.
func (h *hall) fill(a, b *seat) {
	if a.Stream == nil {
		*a, *b = *b, seat{}
	}
	if a.Stream == nil && h.ready() {
		h.sit(a)
	}
	if a.Stream != nil && b.Stream == nil && len(h.waiting) > 0 && h.workers == most() && canPair() {
		h.sit(b)
	}
}

// sit takes the stream that has waited longest. mu is held.
func (h *hall) sit(t *seat) {
	s := h.waiting[0]
	h.waiting = slices.Delete(h.waiting, 0, 1)
	*t = seat{Stream: s, left: s.pieces[0].data, owner: s.pieces[0].owner}
}

// rise frees the seat if its piece is done. mu is held.
func (h *hall) rise(t *seat) {
	s := t.Stream
	if s == nil || len(t.left) > 0 {
		return
	}
	s.pieces = slices.Delete(s.pieces, 0, 1)
	s.fewer.Signal()
	if len(s.pieces) > 0 {
		h.waiting = append(h.waiting, s)
	}
	*t = seat{}
}

// giveBack gives the owner his bytes back, once they are hashed.
func (t *seat) giveBack() {
	if t.owner != nil && len(t.left) == 0 {
		t.owner.Release()
	}
}

// hashSome hashes a slice of both seats' streams, or of the first's if the second
// is empty.
func hashSome(a, b *seat) {
	if b.Stream == nil {
		a.alone(slice)
		return
	}
	// Together they go from one whole block to another.
	a.toBlock()
	b.toBlock()
	n := min(len(a.left), len(b.left), slice) / sha256.BlockSize
	if n == 0 {
		a.alone(slice)
		b.alone(slice)
		return
	}
	pair(&a.state, a.left, &b.state, b.left, n)
	a.left, b.left = a.left[n*sha256.BlockSize:], b.left[n*sha256.BlockSize:]
}

// alone hashes up to n bytes of the seat's.
func (t *seat) alone(n int) {
	n = min(n, len(t.left))
	t.write(t.left[:n])
	t.left = t.left[n:]
}

// toBlock hashes what is missing to a whole block.
func (t *seat) toBlock() {
	if t.partial > 0 {
		t.alone(sha256.BlockSize - t.partial)
	}
}
