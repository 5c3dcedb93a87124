package unpack

import (
	"sync"
	"sync/atomic"

	"peel/pkg/layers"
	"peel/pkg/layers/tar"
)

// A batch is a run of a layer's entries, in the order of the stream, for one
// writer. Entries of two batches have no name in common (see stage.claim), so
// batches may be done in any order.
//
// Names lie in an arena, ended by NULs; bytes of files are pieces of the chunks
// they arrived in, which the batch holds by reference, as it does directories.
type batch struct {
	stage  *stage
	jobs   []job
	arena  []byte
	pieces []piece
	chunks []*layers.Chunk
	dirs   []*dir
	size   int64 // bytes of pieces
}

type piece struct {
	off   int64
	bytes []byte
}

type kind uint8

const (
	makeFile kind = iota
	makeSymlink
	makeNode // device or FIFO
	writePart
)

// job is one entry, or a part of a large file.
type job struct {
	kind       kind
	dir        *dir
	dirfd      int
	name, link span // in the arena
	attrs      attrs
	size       int64
	lo, hi     int // pieces
	large      *largeFile
}

// span is a string in an arena, its NUL included.
type span struct{ lo, hi int }

// What fills a batch: enough that handing it over costs nothing beside the work,
// little enough that all writers have some.
const (
	batchJobs  = 64
	batchBytes = 512 << 10
)

func (b *batch) text(s span) []byte { return b.arena[s.lo:s.hi] }

func (b *batch) hold(s []byte) span {
	lo := len(b.arena)
	b.arena = append(append(b.arena, s...), 0)
	return span{lo, len(b.arena)}
}

func (b *batch) full() bool { return len(b.jobs) >= batchJobs || b.size >= batchBytes }

// use keeps d's descriptor open until the batch is done.
func (b *batch) use(d *dir) {
	if n := len(b.dirs); n > 0 && b.dirs[n-1] == d {
		return
	}
	d.refs.Add(1)
	b.dirs = append(b.dirs, d)
}

func (b *batch) add(p tar.Piece) {
	b.pieces = append(b.pieces, piece{p.Off, p.Bytes})
	b.size += int64(len(p.Bytes))
	if n := len(b.chunks); n > 0 && b.chunks[n-1] == p.Chunk {
		return
	}
	p.Chunk.Retain()
	b.chunks = append(b.chunks, p.Chunk)
}

// reset gives back all that b holds.
func (b *batch) reset() {
	for _, c := range b.chunks {
		c.Release()
	}
	for _, d := range b.dirs {
		d.refs.Add(-1)
	}
	for i := range b.jobs {
		if j := &b.jobs[i]; j.large != nil {
			j.large.release()
		}
	}
	clear(b.jobs) // for the garbage collector
	clear(b.pieces)
	clear(b.chunks)
	clear(b.dirs)
	*b = batch{jobs: b.jobs[:0], arena: b.arena[:0], pieces: b.pieces[:0], chunks: b.chunks[:0], dirs: b.dirs[:0]}
}

// pool is the writers that all layers of an image share. There are as many
// batches as there can be useful ones, which bounds what they hold of the layers
// to batches * (batchBytes + a chunk).
type pool struct {
	idle    chan *batch
	work    chan *batch
	writers sync.WaitGroup
}

// newPool starts n writers for at most producers stages at once. Every stage can
// hold a batch and still the writers have two each, so nobody waits for a batch
// that only he could give back.
func newPool(n, producers int, c *caller) *pool {
	batches := producers + 2*n
	p := &pool{idle: make(chan *batch, batches), work: make(chan *batch, batches)}
	for range batches {
		p.idle <- &batch{}
	}
	for range n {
		p.writers.Go(func() {
			w := newWriter(c)
			for b := range p.work {
				p.do(w, b)
			}
		})
	}
	return p
}

// do does b and gives it back.
func (p *pool) do(w *writer, b *batch) {
	s := b.stage
	if !s.failed() {
		if err := w.batch(b); err != nil {
			s.fail(err)
		}
	}
	b.reset()
	p.idle <- b
	s.pending.Done()
}

// close waits for the writers. No stage may use the pool any more.
func (p *pool) close() {
	close(p.work)
	p.writers.Wait()
}

// largeFile is a file that is written in parts, by any writer in any order. The
// one who gives back the last reference finishes it: the stage has one until it
// has handed out all parts, and each part has one.
type largeFile struct {
	fd    int
	name  string
	attrs attrs
	size  int64
	stage *stage
	refs  atomic.Int32
}

func (f *largeFile) release() {
	if f.refs.Add(-1) > 0 {
		return
	}
	f.stage.finishLarge(f)
}
