package zstd

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
)

const (
	// batchSize is how much input is decoded at a time, rounded up to whole frames.
	// With four times as much, the output of all batches is larger than a cache.
	batchSize = 1 << 18

	// Bounds of a batch. A frame that exceeds them is left to the serial decoder,
	// with all that follows.
	maxIn  = 4 << 20
	maxOut = 16 << 20

	// usualRatio is by how much a batch grows at most, in ordinary data. Memory
	// that is not used then was never touched.
	usualRatio = 8
)

// errSerial tells that the rest is for the serial decoder.
var errSerial = errors.New("zstd: not to be decoded ahead")

// ahead decodes whole frames with several goroutines. One reads the stream and
// cuts it into batches at the ends of frames. Where a batch cannot be decoded, for
// whatever reason, the serial decoder begins again with its first frame: it finds
// the error, if there is one, and returns what comes before.
type ahead struct {
	dec    *zstd.Decoder // decodes in memory, for all workers
	in     io.Reader
	size   int // of a batch
	walker walker

	free    chan *batch // not in use
	order   chan *batch // as the stream has them
	jobs    chan *batch
	stop    chan struct{}
	given   atomic.Bool // up: nobody needs more output
	running sync.WaitGroup

	now   *batch // what read is at
	taken int    // of its output
}

// batch is some whole frames; or else, with a tail, the end of what is cut.
type batch struct {
	in, out []byte
	tail    io.Reader
	ok      bool
	done    chan struct{} // ok and out are there
}

// newAhead starts n workers on what in reads, in batches of about the given size.
func newAhead(in io.Reader, n int, maxWindow uint64, batchSize int) (*ahead, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(n), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(maxOut))
	if err != nil {
		return nil, err
	}
	a := &ahead{
		dec:   dec,
		in:    in,
		size:  batchSize,
		free:  make(chan *batch, n+2),
		order: make(chan *batch, n+3), // those and a tail
		jobs:  make(chan *batch, n+2),
		stop:  make(chan struct{}),
	}
	for range cap(a.free) {
		a.free <- &batch{done: make(chan struct{}, 1)}
	}
	a.running.Go(a.cut)
	for range n {
		a.running.Go(a.work)
	}
	return a, nil
}

// cut makes batches of the stream.
func (a *ahead) cut() {
	defer close(a.order)
	defer close(a.jobs)
	var carry []byte // belongs to the next batch
	for {
		var b *batch
		select {
		case b = <-a.free:
		case <-a.stop:
			return
		}
		whole, err := a.fill(b, carry)
		carry = append(carry[:0], b.in[whole:]...)
		if b.in = b.in[:whole]; whole > 0 {
			a.order <- b
			a.jobs <- b
		}
		switch {
		case err == io.EOF && len(carry) == 0:
			return
		case err == errSerial:
			a.order <- &batch{tail: io.MultiReader(bytes.NewReader(carry), a.in)}
			return
		case err != nil:
			a.order <- &batch{tail: io.MultiReader(bytes.NewReader(carry), failing{err})}
			return
		}
	}
}

// fill reads frames into b, behind the beginning of one that the walker has passed.
// It returns how many bytes are whole frames, and why there will be no more batch:
// the stream's end or error, or errSerial.
func (a *ahead) fill(b *batch, carry []byte) (whole int, err error) {
	const step = 64 << 10
	b.in = append(b.in[:0], carry...)
	for {
		if whole >= a.size || whole > 0 && len(b.in) >= maxIn {
			return whole, nil
		}
		if len(b.in) >= maxIn {
			return 0, errSerial
		}
		at := len(b.in)
		b.in = slices.Grow(b.in, step)[:at+step]
		n, err := io.ReadFull(a.in, b.in[at:])
		b.in = b.in[:at+n]
		for at < len(b.in) {
			m, ended, ok := a.walker.walk(b.in[at:])
			if at += m; !ok {
				return whole, errSerial
			}
			if ended {
				whole = at
			}
		}
		if err == io.ErrUnexpectedEOF {
			err = io.EOF
		}
		if err != nil {
			return whole, err
		}
	}
}

// work decodes batches.
func (a *ahead) work() {
	for b := range a.jobs {
		if b.ok = false; !a.given.Load() {
			if b.out == nil {
				// DecodeAll moves all output for each frame that has no room.
				b.out = make([]byte, 0, usualRatio*len(b.in))
			}
			out, err := a.dec.DecodeAll(b.in, b.out[:0])
			b.out, b.ok = out, err == nil
		}
		b.done <- struct{}{}
	}
}

// read returns output of the batches in their order, or errSerial.
func (a *ahead) read(p []byte) (int, error) {
	for a.now == nil || a.taken == len(a.now.out) {
		if a.now != nil {
			a.free <- a.now
		}
		var ok bool
		if a.now, ok = <-a.order; !ok {
			return 0, io.EOF
		}
		a.taken = 0
		if a.now.tail != nil {
			return 0, errSerial
		}
		if <-a.now.done; !a.now.ok {
			a.given.Store(true)
			return 0, errSerial
		}
	}
	n := copy(p, a.now.out[a.taken:])
	a.taken += n
	return n, nil
}

// rest is the stream from the batch on for which read returned errSerial.
func (a *ahead) rest() io.Reader { return &rest{ahead: a, now: a.now, left: a.now.in} }

// rest reads what has been cut into batches.
type rest struct {
	ahead *ahead
	now   *batch
	left  []byte
}

func (r *rest) Read(p []byte) (int, error) {
	for {
		if r.now.tail != nil {
			return r.now.tail.Read(p)
		}
		if len(r.left) > 0 {
			n := copy(p, r.left)
			r.left = r.left[n:]
			return n, nil
		}
		r.ahead.free <- r.now
		next, ok := <-r.ahead.order
		if !ok {
			r.now = &batch{tail: bytes.NewReader(nil)}
			continue
		}
		if next.tail == nil {
			<-next.done
		}
		r.now, r.left = next, next.in
	}
}

// close ends all goroutines.
func (a *ahead) close() {
	a.given.Store(true)
	close(a.stop)
	a.running.Wait()
	a.dec.Close()
}
