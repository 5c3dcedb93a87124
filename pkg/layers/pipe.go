package layers

import (
	"sync"

	"github.com/opencontainers/go-digest"

	"peel/internal/hashes"
	"peel/pkg/layers/inflate"
)

// depth is how many chunks may wait for the caller. It evens out stages of unequal
// speed; a slower one sets the pace all the same. No more wait to be hashed.
const depth = 4

// pipe runs the stages of a layer. The goroutine that decodes gives each chunk to
// be hashed and sends it to the caller.
type pipe struct {
	dec  decoder
	hash *hashes.Stream

	window *Chunk // what decode fills next
	began  bool

	toCaller chan *Chunk
	err      error // why toCaller was closed; read after that
	stop     chan struct{}
	running  sync.WaitGroup
	closed   bool
}

func newPipe(dec decoder) *pipe {
	return &pipe{dec: dec, hash: hashes.New()}
}

// next returns the next chunk, with a reference for the caller.
func (p *pipe) next() (*Chunk, error) {
	if !p.began {
		p.began = true
		return p.first()
	}
	if p.toCaller == nil {
		return nil, p.err
	}
	c, ok := <-p.toCaller
	if !ok {
		return nil, p.err
	}
	return c, nil
}

// first decodes the first chunk at once. Goroutines are only started for a layer
// that is longer.
func (p *pipe) first() (*Chunk, error) {
	p.window = newChunk()
	c, err := p.decode()
	if err != nil {
		p.err = err
		if c == nil {
			return nil, err
		}
		p.hash.Write(c.Bytes)
		return c, nil
	}
	p.toCaller, p.stop = make(chan *Chunk, depth), make(chan struct{})
	c.Retain()
	p.hash.Add(c.Bytes, c)
	running.Add(1)
	p.running.Go(p.runDecoder)
	return c, nil
}

// decode fills a chunk. It may return both a chunk and the error that ends the
// stream; without an error there is a chunk, and a next one is prepared.
func (p *pipe) decode() (*Chunk, error) {
	const start = inflate.History
	c := p.window
	p.window = nil
	end, err := start, error(nil)
	// A decoder may return early with what was flushed; a chunk is filled.
	for err == nil && len(c.buf)-end >= inflate.Slack {
		end, err = p.dec.Decode(c.buf, end)
	}
	c.Bytes = c.buf[start:end:end]
	switch {
	case err == nil:
		p.window = newChunk()
		copy(p.window.buf[:start], c.buf[end-start:end])
	case end == start:
		c.Release()
		return nil, err
	}
	return c, err
}

func (p *pipe) runDecoder() {
	defer close(p.toCaller)
	for {
		c, err := p.decode()
		if c != nil && !p.send(c) {
			err = errClosed
		}
		if err != nil {
			p.err = err
			return
		}
	}
}

// send hands a chunk, with its reference, to both sides, unless the pipe stops.
func (p *pipe) send(c *Chunk) bool {
	c.Retain()
	p.hash.Add(c.Bytes, c)
	select {
	case p.toCaller <- c:
		return true
	case <-p.stop:
		c.Release()
		return false
	}
}

// digest is the tar's, once next has returned io.EOF.
func (p *pipe) digest() digest.Digest {
	p.running.Wait()
	return digest.NewDigest(digest.SHA256, p.hash)
}

// close ends the goroutines and waits for them.
func (p *pipe) close() {
	if p.closed {
		return
	}
	p.closed = true
	if p.toCaller != nil {
		close(p.stop)
		for c := range p.toCaller {
			c.Release()
		}
		p.running.Wait()
		p.hash.Wait()
		running.Add(-1)
	}
	if p.window != nil {
		p.window.Release()
		p.window = nil
	}
	p.dec.Close()
}
