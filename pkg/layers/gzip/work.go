package gzip

import (
	"errors"
	"io"

	"peel/pkg/layers/inflate"
)

// work makes stretches, one after another. It takes the memory for one before
// the segment to fill it from, so that the segments before always have theirs.
func (a *ahead) work() {
	w := worker{ahead: a}
	w.in.Detach(w.nextView)
	for {
		var st *stretch
		select {
		case st = <-a.free:
		case <-a.stop:
			return
		}
		select {
		case s, ok := <-a.jobs:
			if !ok {
				return
			}
			if w.decode(s, st) {
				s.stretch = st
			} else {
				a.free <- st
			}
			close(s.done)
		case <-a.stop:
			return
		}
	}
}

type worker struct {
	*ahead
	in      inflate.Input
	d       inflate.Decoder
	here    *segment
	further int // segments after the first that are still to be read
}

// errTooFar ends a stretch that finds no end.
var errTooFar = errors.New("gzip: no block begins in the next segment")

// nextView shows the segment after the worker's own, and no other: those beyond
// are not read before the Reader has come nearer.
func (w *worker) nextView() ([]byte, error) {
	if w.further == 0 {
		return nil, errTooFar
	}
	w.further--
	s, err := w.following(w.here)
	if err != nil {
		return nil, err
	}
	w.here = s
	return s.data, nil
}

// decode fills st from the first block that it finds in s.
func (w *worker) decode(s *segment, st *stretch) bool {
	bit := w.d.Find(s.data, 0, len(s.data)/findShare)
	if bit < 0 {
		return false
	}
	st.start = 8*s.base + int64(bit)
	w.here, w.further = s, 1
	w.in.Jump(s.data[bit/8:], s.base+int64(bit/8))
	if w.d.ResetAt(&w.in, bit%8) != nil {
		return false
	}
	w.d.StopAt(8 * s.end())
	err := w.decodeMarked(st)
	if err == nil {
		err = w.decodePlain(st)
	}
	st.end, st.last = w.d.Bit(), err == io.EOF
	return err == io.EOF || err == inflate.ErrStop
}

// decodeMarked decodes until no match can reach a marker, and then returns nil.
func (w *worker) decodeMarked(st *stretch) error {
	const step = 128 << 10
	if st.marked == nil {
		st.marked = inflate.Markers()
	}
	st.plain = st.plain[:0]
	out, pos := st.marked[:inflate.History], inflate.History
	defer func() { st.marked = out[:pos] }()
	for len(out) < maxMarked {
		out = grow(out, step)
		for len(out)-pos >= inflate.Slack {
			var err error
			if pos, err = w.d.DecodeMarked(out, pos); err != nil {
				return err
			}
		}
		if pos >= 2*inflate.History && inflate.LastMarker(out[pos-inflate.History:pos]) < 0 {
			return nil
		}
	}
	return errTooFar
}

// decodePlain decodes the rest as bytes.
func (w *worker) decodePlain(st *stretch) error {
	const step = 1 << 20
	out, pos := grow(st.plain[:0], step), inflate.History
	defer func() { st.plain = out[:pos] }()
	for i, s := range st.marked[len(st.marked)-inflate.History:] {
		out[i] = byte(s)
	}
	for {
		var err error
		if pos, err = w.d.Decode(out, pos); err != nil {
			return err
		}
		if len(out)-pos < inflate.Slack {
			if len(out) >= maxPlain {
				return errTooFar
			}
			out = grow(out, step)
		}
	}
}

// grow makes out n longer, in its own memory if there is room.
func grow[E any](out []E, n int) []E {
	if n += len(out); n <= cap(out) {
		return out[:n]
	}
	larger := make([]E, n, max(n, 2*cap(out)))
	copy(larger, out)
	return larger
}
