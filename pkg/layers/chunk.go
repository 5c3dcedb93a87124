package layers

import (
	"sync"
	"sync/atomic"

	"peel/pkg/layers/inflate"
)

// ChunkSize is the most bytes one Chunk holds. Large enough that a hand-over
// between goroutines costs nothing beside the work on its bytes, small enough
// that several lie in a second-level cache.
const ChunkSize = 256 << 10

// Chunk is a run of a layer's tar stream, in a pooled buffer that its readers
// share by reference count: the hasher, the tar side and any writer that still
// holds a file's bytes. Nobody writes to Bytes after the chunk has been handed
// out, and nobody reads it after giving back his reference.
type Chunk struct {
	Bytes []byte

	buf  []byte
	refs atomic.Int32
	pool *sync.Pool // nil for a chunk of NewChunk's
	done func()
}

// NewChunk makes a chunk, with one reference, of bytes that lie elsewhere, such as
// in a mapped file. done, unless nil, runs when the last reference is given back.
func NewChunk(b []byte, done func()) *Chunk {
	c := &Chunk{Bytes: b, done: done}
	c.refs.Store(1)
	return c
}

// Retain adds a reference. The caller must hold one already.
func (c *Chunk) Retain() { c.refs.Add(1) }

// Release gives one reference back; the last one recycles the buffer.
func (c *Chunk) Release() {
	switch n := c.refs.Add(-1); {
	case n == 0:
		c.Bytes = nil
		if c.pool != nil {
			c.pool.Put(c)
		} else if c.done != nil {
			c.done()
		}
	case n < 0:
		panic("layers: chunk released more often than retained")
	}
}

// A pool for all layers of a process: a chunk freed by one serves another. A
// buffer is a window of package inflate, so that chunks are decoded in place:
// the history comes first, what Bytes shows after it.
var chunks = sync.Pool{New: func() any { return &Chunk{buf: make([]byte, inflate.History+ChunkSize)} }}

func newChunk() *Chunk {
	c := chunks.Get().(*Chunk)
	c.pool = &chunks
	c.refs.Store(1)
	return c
}
