package gzip

import (
	"errors"
	"io"
	"sync"

	"peel/pkg/layers/inflate"
)

// ahead decodes a member from several places at once, for a Reader that decodes
// it from the front.
//
// One goroutine reads the input by segments. For each segment a worker looks for
// a block that begins in it, and decodes from there on, without knowing what
// comes before, until the first block in a later segment that another worker
// can find: a stretch. The Reader goes through the input in order. Where it
// stands between two blocks and a stretch begins at that very bit, it takes the
// stretch's output for its own, and goes on behind it; otherwise it decodes. So
// what a worker guesses wrong costs time, and never a wrong byte; and all errors
// are the Reader's own. Where members are short, a stretch is a row of whole ones.
//
//	segments    |      1      |      2      |      3      |
//	blocks      |..:....:....:|...:....:...:|..:...:....:.|
//	worker of 2               |   [-------------]
//	Reader      [-----------------)             [----------
type ahead struct {
	size int // of a segment

	at     *segment // the Reader is in
	before *segment // and was in; its worker sees both
	try    *segment // whose stretch comes next; nil: there will be none

	// The stretch that is being taken, what of it has been, and what came before it.
	from    *segment
	taken   int
	history []byte

	spare   chan []byte   // segments' memory
	tokens  chan struct{} // one for each segment that is not behind the Reader
	free    chan *stretch
	jobs    chan *segment
	stop    chan struct{}
	stopped bool
	running sync.WaitGroup
}

// segment is a piece of the input.
type segment struct {
	data []byte
	base int64 // offset of data[0]

	more chan struct{} // closed when next and err are known
	next *segment
	err  error // why there is no next

	done    chan struct{} // closed when the worker is
	stretch *stretch      // nil: it found or finished none
}

func (s *segment) end() int64 { return s.base + int64(len(s.data)) }

// stretch is output from the middle of a member, or of members as a whole.
type stretch struct {
	start, end int64 // bits of the input
	members    bool  // whole ones, checked
	last       bool  // ends with the member that it lies in
	marked     []uint16
	plain      []byte // what follows, behind History bytes of the marked
}

const (
	segmentSize = 2 << 20 // holds some 80 blocks; with half as much, more of it is decoded marked

	// How much output a stretch has when it ends with the present block, or member.
	// Where that has as much again, it is all left to the Reader.
	maxMarked = 4 << 20 // symbols
	maxPlain  = 16 << 20

	// findShare of a segment is searched: in a long stored block none is found.
	findShare = 8
)

// Speculate lets n goroutines decode ahead, beside the one that calls Decode,
// from the present position on. It pays for a long member in ordinary blocks on a
// machine with idle processors: the work as a whole is a third more. Memory
// grows to some 30 MiB for each goroutine.
//
// r is read by another goroutine from now on, and further than the file goes.
// Close, which is needed then, waits for a Read that is under way.
func (z *Reader) Speculate(n int) { z.speculate(n, segmentSize) }

func (z *Reader) speculate(n, size int) {
	if n < 1 || z.ahead != nil || z.err != nil {
		return
	}
	a := &ahead{
		size:    size,
		history: make([]byte, inflate.History),
		spare:   make(chan []byte, n+3),
		tokens:  make(chan struct{}, n+3),
		free:    make(chan *stretch, n+2),
		jobs:    make(chan *segment, n+3),
		stop:    make(chan struct{}),
	}
	for range cap(a.free) {
		a.free <- new(stretch)
	}
	// The present position is in an empty segment, which others follow.
	a.at = &segment{base: z.in.Offset(), more: make(chan struct{}), done: make(chan struct{})}
	close(a.at.done)
	a.try = a.at
	a.tokens <- struct{}{}
	rest, r := z.in.Detach(a.nextView)
	a.running.Go(func() { a.read(rest, r) })
	for range n {
		a.running.Go(a.work)
	}
	z.ahead = a
}

// close ends all goroutines.
func (a *ahead) close() {
	if !a.stopped {
		a.stopped = true
		close(a.stop)
		a.running.Wait()
	}
}

// read makes segments of the input.
func (a *ahead) read(rest []byte, r io.Reader) {
	defer close(a.jobs)
	last := a.at
	for {
		select {
		case a.tokens <- struct{}{}:
		case <-a.stop:
			last.err = errStopped
			close(last.more)
			return
		}
		var data []byte
		select {
		case data = <-a.spare:
		default:
			data = make([]byte, a.size)
		}
		n := copy(data, rest)
		rest = rest[n:]
		m, err := io.ReadFull(r, data[n:])
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = io.EOF
		}
		if n+m > 0 {
			s := &segment{data: data[:n+m], base: last.end(), more: make(chan struct{}), done: make(chan struct{})}
			last.next = s
			close(last.more)
			last = s
			a.jobs <- s // does not wait: the Reader passes no segment that is not done
		}
		if err != nil {
			last.err = err
			close(last.more)
			return
		}
	}
}

var errStopped = errors.New("gzip: reader is closed")

// following waits for the segment after s.
func (a *ahead) following(s *segment) (*segment, error) {
	select {
	case <-s.more:
	case <-a.stop:
		return nil, errStopped
	}
	if s.next == nil {
		return nil, s.err
	}
	return s.next, nil
}

// nextView is where the Reader's input comes from.
func (a *ahead) nextView() ([]byte, error) {
	// In a long block the Reader meets no stretch. Those behind it must not keep
	// their memory, or workers would wait for it, and all for them.
	for a.try != nil && a.try.base < a.at.end() && a.pass() {
	}
	s, err := a.following(a.at)
	if err != nil {
		return nil, err
	}
	if a.before.isDone() && a.at.isDone() && len(a.at.data) == a.size {
		select {
		case a.spare <- a.at.data: // no worker sees it any more
		default:
		}
	}
	a.before, a.at = a.at, s
	<-a.tokens
	return s.data, nil
}

// isDone tells whether no worker has to do with s, which may be nil.
func (s *segment) isDone() bool {
	if s == nil {
		return true
	}
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// decodeAhead is what Decode does within a member when others work ahead.
func (z *Reader) decodeAhead(window []byte, pos int) (int, error) {
	a := z.ahead
	for len(window)-pos >= inflate.Slack {
		if a.from == nil && z.member.BetweenBlocks() {
			a.adopt(z, window[:pos])
			if a.from == nil {
				z.member.StopAt(a.nextStart(z.member.Bit()))
			}
		}
		if a.from != nil {
			var err error
			if pos, err = a.take(z, window, pos); err != nil {
				return pos, err
			}
			continue
		}
		end, err := z.member.Decode(window, pos)
		pos = end
		if err != inflate.ErrStop {
			return pos, err
		}
	}
	return pos, nil
}

// adopt looks for a stretch that begins where the Reader stands, between blocks.
func (a *ahead) adopt(z *Reader, output []byte) {
	a.seek(z.member.Bit(), func(st *stretch) bool {
		n := z.member.History()
		if st.members || n < inflate.History && st.reaches() > n {
			return false
		}
		copy(a.history[inflate.History-n:], output[len(output)-n:])
		return true
	})
}

// adoptMembers does so between members.
func (a *ahead) adoptMembers(z *Reader) bool {
	a.seek(8*z.in.Offset(), func(st *stretch) bool { return st.members })
	return a.from != nil
}

// inMembers tells whether whole members are being taken.
func (a *ahead) inMembers() bool { return a.from != nil && a.from.stretch.members }

// seek begins to take the stretch that begins at the given bit, if there is one
// that fits, and passes those over that begin before.
func (a *ahead) seek(bit int64, fits func(*stretch) bool) {
	for a.from == nil && a.try != nil && bit >= 8*a.try.base {
		select {
		case <-a.try.done:
		case <-a.stop:
			return
		}
		if st := a.try.stretch; st != nil {
			if st.start > bit {
				return
			}
			if st.start == bit && fits(st) {
				a.from, a.taken = a.try, 0
				a.try, _ = a.following(a.try)
				return
			}
		}
		a.pass()
	}
}

// pass gives up the stretch that comes next, when its worker is through.
func (a *ahead) pass() bool {
	select {
	case <-a.try.done:
	case <-a.stop:
		return false
	}
	if st := a.try.stretch; st != nil {
		a.try.stretch = nil
		a.free <- st
	}
	a.try, _ = a.following(a.try)
	return true
}

// nextStart is the bit at which the Reader, at the given one and after adopt,
// should stop and look for a stretch again; 0 for never.
func (a *ahead) nextStart(bit int64) int64 {
	switch {
	case a.try == nil:
		return 0
	case bit < 8*a.try.base || a.try.stretch == nil: // nil only after close
		return 8 * a.try.base
	}
	return a.try.stretch.start
}

// take appends output of the adopted stretch to window[:pos]. When all has been
// taken, the Reader stands behind it.
func (a *ahead) take(z *Reader, window []byte, pos int) (int, error) {
	st := a.from.stretch
	var marked []uint16
	var plain []byte
	if !st.members {
		marked = st.marked[inflate.History:]
	}
	if len(st.plain) > 0 {
		plain = st.plain[inflate.History:]
	}
	if a.taken < len(marked) {
		n := min(len(marked)-a.taken, len(window)-pos)
		inflate.Fill(window[pos:][:n], marked[a.taken:][:n], a.history)
		a.taken += n
		pos += n
	}
	if a.taken >= len(marked) {
		n := copy(window[pos:], plain[a.taken-len(marked):])
		a.taken += n
		pos += n
	}
	if a.taken < len(marked)+len(plain) {
		return pos, nil
	}
	for a.at.end() <= st.end/8 {
		if _, err := a.nextView(); err == io.EOF {
			break // the input ends with the stretch
		} else if err != nil {
			return pos, err
		}
	}
	z.in.Jump(a.at.data[st.end/8-a.at.base:], st.end/8)
	members, bit, last := st.members, int(st.end%8), st.last
	a.from.stretch, a.from = nil, nil
	a.free <- st // a worker's from here on
	if members {
		return pos, z.next()
	}
	return pos, z.member.Skip(int64(a.taken), bit, last)
}

// reaches is how far back from its start a stretch copies.
func (st *stretch) reaches() int {
	const none = 1 << 16 // all markers are below
	lowest := none
	for _, s := range st.marked[inflate.History:] {
		if s >= inflate.Marker {
			lowest = min(lowest, int(s))
		}
	}
	return none - lowest
}
