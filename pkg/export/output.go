package export

import (
	"context"
	"io"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// output collects the archive in buffers and has a goroutine write them, so that
// the next files are read while a pipe's reader takes the last ones.
type output struct {
	ctx     context.Context
	pipe    *pipe             // what it writes to, if that is one
	changed func(name string) // hears of files that change while they are sent; from the goroutine

	buf  []byte      // being filled; its capacity is bufferSize
	full chan piece  // to the goroutine, in order
	free chan []byte // back from it
	done chan struct{}
	err  atomic.Pointer[error] // the first of the goroutine's
}

// piece is a part of the archive: a buffer, and then perhaps a file.
type piece struct {
	buf  []byte
	file *sent
}

const (
	blockSize  = 512
	bufferSize = 256 << 10 // larger ones fall out of the cache between read and write
	buffers    = 4
)

func newOutput(ctx context.Context, w io.Writer, changed func(name string)) *output {
	o := &output{
		ctx:     ctx,
		pipe:    pipeOf(w),
		changed: changed,
		buf:     make([]byte, 0, bufferSize),
		full:    make(chan piece, buffers),
		free:    make(chan []byte, buffers),
		done:    make(chan struct{}),
	}
	for range buffers - 1 {
		o.free <- make([]byte, 0, bufferSize)
	}
	go o.writeOut(w)
	return o
}

// writeOut ends when full is closed. After an error it only keeps buffers going
// round.
func (o *output) writeOut(w io.Writer) {
	defer close(o.done)
	for p := range o.full {
		if o.err.Load() == nil {
			_, err := w.Write(p.buf)
			if err == nil && p.file != nil {
				err = o.sendOut(w, p.file)
			}
			if err != nil {
				o.err.Store(&err)
			}
		}
		if p.file != nil && !p.file.lent {
			unix.Close(p.file.fd)
		}
		o.free <- p.buf[:0]
	}
}

// flush hands over what is collected.
func (o *output) flush() error { return o.hand(piece{buf: o.buf}) }

func (o *output) hand(p piece) error {
	if len(p.buf) > 0 || p.file != nil {
		o.full <- p
		o.buf = <-o.free
	}
	if err := o.err.Load(); err != nil {
		return *err
	}
	return o.ctx.Err()
}

// write adds b to the archive.
func (o *output) write(b []byte) error {
	for {
		n := copy(o.buf[len(o.buf):cap(o.buf)], b)
		o.buf = o.buf[:len(o.buf)+n]
		if b = b[n:]; len(b) == 0 {
			return nil
		}
		if err := o.flush(); err != nil {
			return err
		}
	}
}

// room returns the free part of the buffer, of at least min(n, enough) bytes, for
// the caller to fill and then call filled.
func (o *output) room(n int64) ([]byte, error) {
	const enough = 64 << 10
	if int64(cap(o.buf)-len(o.buf)) < min(n, enough) {
		if err := o.flush(); err != nil {
			return nil, err
		}
	}
	return o.buf[len(o.buf):cap(o.buf)], nil
}

func (o *output) filled(n int) { o.buf = o.buf[:len(o.buf)+n] }

// zeros adds n zero bytes.
func (o *output) zeros(n int64) error {
	for n > 0 {
		b, err := o.room(n)
		if err != nil {
			return err
		}
		b = b[:min(n, int64(len(b)))]
		clear(b)
		o.filled(len(b))
		n -= int64(len(b))
	}
	return nil
}

// padding is what follows n bytes of data, up to a whole block.
func padding(n int64) int64 { return -n & (blockSize - 1) }

// close ends the archive and waits until all is written.
func (o *output) close() error {
	err := o.zeros(2 * blockSize)
	if err == nil {
		err = o.flush()
	}
	o.abort()
	if failed := o.err.Load(); failed != nil {
		return *failed
	}
	return err
}

// abort waits for the goroutine; what was not handed over yet is lost.
func (o *output) abort() {
	close(o.full)
	<-o.done
}
