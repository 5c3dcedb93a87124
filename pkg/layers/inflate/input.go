package inflate

import (
	"bufio"
	"bytes"
	"io"
	"strings"
)

// inputSize is what an Input reads at a time from a plain io.Reader.
const inputSize = 64 << 10

// Input hands a reader's bytes to a Decoder, and to whoever parses what lies
// around its streams. It never waits for a byte that is not needed yet, so a
// stream arriving over a network shows all its sender has flushed.
//
// It reads ahead. From an io.ByteReader it takes, in the end, no more than was
// used (as compress/flate promises): Sync puts the rest back, or leaves it.
type Input struct {
	view []byte // bytes at hand, of which view[pos:] are unused
	pos  int
	off  int64 // offset of view[0]
	err  error // what the reader ended with

	r    io.Reader
	how  reading
	own  []byte
	next func() ([]byte, error)
}

// reading is how a reader's bytes come into view.
type reading uint8

const (
	readOwn    reading = iota // Read into own; what is unused stays with the Input
	readSeeker                // the same, put back by Seek
	readBufio                 // a look at a bufio.Reader's buffer
	readBuffer                // a look at a bytes.Buffer
	readByte                  // byte by byte: any other io.ByteReader
	readViews                 // what next returns
)

// Reset makes in read from r, with offsets counted from here. It keeps its
// buffer, and drops what it has read ahead.
func (in *Input) Reset(r io.Reader) {
	*in = Input{r: r, own: in.own}
	switch r.(type) {
	case *bufio.Reader:
		in.how = readBufio
	case *bytes.Buffer:
		in.how = readBuffer
	case *bytes.Reader, *strings.Reader:
		in.how = readSeeker
	case io.ByteReader:
		in.how = readByte
	}
	if in.own == nil && (in.how == readOwn || in.how == readSeeker) {
		in.own = make([]byte, inputSize)
	}
}

// Offset is the number of bytes that have been used since Reset.
func (in *Input) Offset() int64 { return in.off + int64(in.pos) }

// ReadByte uses one byte. At the end it returns io.EOF.
func (in *Input) ReadByte() (byte, error) {
	if in.pos == len(in.view) {
		if err := in.fill(); err != nil {
			return 0, err
		}
	}
	b := in.view[in.pos]
	in.pos++
	return b, nil
}

// Sync gives the reader back what has not been used, if it is one that takes it.
func (in *Input) Sync() {
	switch in.how {
	case readOwn, readByte, readViews:
		return
	case readSeeker:
		// Moving back over what was just read cannot fail in these two.
		in.r.(io.Seeker).Seek(int64(in.pos-len(in.view)), io.SeekCurrent)
	case readBufio:
		in.r.(*bufio.Reader).Discard(in.pos)
	case readBuffer:
		in.r.(*bytes.Buffer).Next(in.pos)
	}
	in.off += int64(in.pos)
	in.view, in.pos = nil, 0
}

// Detach makes in go on with the bytes that next returns, which it shows in
// place, and gives the reader away, with what had been read of it and not used.
func (in *Input) Detach(next func() ([]byte, error)) (rest []byte, r io.Reader) {
	in.Sync()
	rest, r = in.view[in.pos:], in.r
	in.off += int64(in.pos)
	in.view, in.pos, in.r, in.own = nil, 0, nil, nil
	in.how, in.next = readViews, next
	return rest, r
}

// Jump makes view the bytes at hand, the first at the given offset, of an Input
// that has been detached.
func (in *Input) Jump(view []byte, offset int64) {
	in.view, in.pos, in.off, in.err = view, 0, offset, nil
}

// ready is the number of bytes at hand.
func (in *Input) ready() int { return len(in.view) - in.pos }

// fill brings the next bytes into view, at least one, when none is left there.
func (in *Input) fill() error {
	if in.err != nil {
		return in.err
	}
	in.off += int64(in.pos)
	used := in.pos
	in.view, in.pos = nil, 0
	switch in.how {
	case readBufio:
		br := in.r.(*bufio.Reader)
		br.Discard(used) // it holds them: Peek has shown them
		if _, in.err = br.Peek(1); in.err == nil {
			in.view, _ = br.Peek(br.Buffered())
		}
	case readBuffer:
		b := in.r.(*bytes.Buffer)
		b.Next(used)
		if in.view = b.Bytes(); len(in.view) == 0 {
			in.err = io.EOF
		}
	case readByte:
		var b [1]byte
		b[0], in.err = in.r.(io.ByteReader).ReadByte()
		if in.err == nil {
			in.view = append(in.own[:0], b[0])
			in.own = in.view
		}
	case readViews:
		in.view, in.err = in.next()
	default:
		n, err := readSome(in.r, in.own)
		in.view, in.err = in.own[:n], err
	}
	if len(in.view) > 0 {
		return nil
	}
	return in.err
}

// readSome reads at least one byte, or returns why there is none; with bytes
// may come the reason that they are the last.
func readSome(r io.Reader, p []byte) (int, error) {
	for range 100 {
		n, err := r.Read(p)
		if n != 0 || err != nil {
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}
