package gzip

import (
	"bytes"
	"errors"
	"io"

	"peel/pkg/layers/inflate"
)

// work makes stretches, one after another. It takes the memory for one before
// the segment to fill it from, so that the segments before always have theirs.
func (a *ahead) work() {
	w := worker{ahead: a}
	w.z.in.Detach(w.nextView)
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
	z       Reader // reads members; its parts read blocks
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

// decode fills st from the first member that it finds in s, or the first block.
func (w *worker) decode(s *segment, st *stretch) bool {
	st.marked, st.plain = st.marked[:min(len(st.marked), inflate.History)], st.plain[:0]
	share := len(s.data) / findShare
	if at := findMember(s.data[:share]); at >= 0 {
		return w.decodeMembers(s, at, st)
	}
	bit := w.z.member.Find(s.data, 0, share)
	if bit < 0 {
		return false
	}
	st.start, st.members = 8*s.base+int64(bit), false
	w.begin(s, bit/8)
	if w.z.member.ResetAt(&w.z.in, bit%8) != nil {
		return false
	}
	w.z.member.StopAt(8 * s.end())
	err := w.decodeMarked(st)
	if err == nil {
		history := w.plainWindow(st)
		for i, s := range st.marked[len(st.marked)-inflate.History:] {
			history[i] = byte(s)
		}
		err = w.decodePlain(st, w.z.member.Decode, w.stopSoon)
	}
	st.end, st.last = w.z.member.Bit(), err == io.EOF
	return err == io.EOF || err == inflate.ErrStop
}

// stopSoon ends the stretch with the present block, for it has become long.
func (w *worker) stopSoon() { w.z.member.StopAt(w.z.member.Bit()) }

// begin moves the worker's input to a byte of s.
func (w *worker) begin(s *segment, at int) {
	w.here, w.further = s, 1
	w.z.in.Jump(s.data[at:], s.base+int64(at))
}

// decodeMembers decodes whole members, with all their checks, from the one at
// s.data[at] to the first that begins in a later segment.
func (w *worker) decodeMembers(s *segment, at int, st *stretch) bool {
	st.start, st.members, st.last = 8*(s.base+int64(at)), true, false
	w.begin(s, at)
	w.z.stopAt = s.end()
	if w.z.err = w.z.begin(nil); w.z.err != nil {
		return false
	}
	w.plainWindow(st)
	err := w.decodePlain(st, w.z.Decode, func() { w.z.stopAt = w.z.in.Offset() })
	st.end = 8 * w.z.in.Offset()
	return err == io.EOF || err == errNextMember
}

// findMember looks for what is likely a member's header: besides the magic number
// and the flags, what compressors write for XFL and OS.
func findMember(data []byte) int {
	for at := 0; ; at++ {
		i := bytes.Index(data[at:], []byte{id1, id2, deflate})
		if i < 0 || len(data)-at-i < 10 {
			return -1
		}
		at += i
		flags, xfl, os := data[at+3], data[at+8], data[at+9]
		if flags&flagReserved == 0 && (xfl == 0 || xfl == 2 || xfl == 4) && (os <= 13 || os == 255) {
			return at
		}
	}
}

// decodeMarked decodes until no match can reach a marker, and then returns nil.
func (w *worker) decodeMarked(st *stretch) error {
	const step = 32 << 10
	if st.marked == nil {
		st.marked = inflate.Markers()
	}
	out, pos := st.marked[:inflate.History], inflate.History
	defer func() { st.marked = out[:pos] }()
	for len(out) < 2*maxMarked {
		if len(out) >= maxMarked {
			w.stopSoon()
		}
		out = grow(out, step)
		for len(out)-pos >= inflate.Slack {
			var err error
			if pos, err = w.z.member.DecodeMarked(out, pos); err != nil {
				return err
			}
		}
		if pos >= 2*inflate.History && inflate.LastMarker(out[pos-inflate.History:pos]) < 0 {
			return nil
		}
	}
	return errTooFar
}

// plainStep is by how much a stretch's bytes grow.
const plainStep = 1 << 20

// plainWindow makes room for bytes behind a history.
func (w *worker) plainWindow(st *stretch) []byte {
	st.plain = grow(st.plain[:0], plainStep)
	return st.plain
}

// decodePlain decodes bytes behind the history in st.plain until there is an error.
// When they have become many, it calls enough, which should make one.
func (w *worker) decodePlain(st *stretch, decode func([]byte, int) (int, error), enough func()) error {
	out, pos := st.plain, inflate.History
	defer func() { st.plain = out[:pos] }()
	for {
		var err error
		if pos, err = decode(out, pos); err != nil {
			return err
		}
		if len(out)-pos < inflate.Slack {
			if len(out) >= 2*maxPlain {
				return errTooFar
			}
			if len(out) >= maxPlain {
				enough()
			}
			out = grow(out, plainStep)
		}
	}
}

// grow makes out n longer, in its own memory if there is room. New memory has much
// of it: what is not touched is not paid for, and moving is.
func grow[E any](out []E, n int) []E {
	if n += len(out); n <= cap(out) {
		return out[:n]
	}
	larger := make([]E, n, max(8*n, 2*cap(out)))
	copy(larger, out)
	return larger
}
