package unpack

import (
	"hash/maphash"
)

// This file is how a stage hands entries to the writers: in batches, so that
// whatever order those are done in, the tree is that of the stream's order.

// special hands over what has no bytes: links, devices and FIFOs.
func (s *stage) special(j job, parent *dir, base, link []byte) error {
	b, err := s.place(&j, parent, base)
	if err != nil {
		return err
	}
	if link != nil {
		j.link = b.hold(link)
	}
	return s.put(j)
}

// put adds a job to the current batch.
func (s *stage) put(j job) error {
	s.cur.jobs = append(s.cur.jobs, j)
	if s.cur.full() {
		s.flush()
	}
	return nil
}

// place makes room for base in parent and begins its job: afterwards, a writer
// may create it. It returns the batch that the job is to go to.
func (s *stage) place(j *job, parent *dir, base []byte) (*batch, error) {
	if err := s.vacate(parent, base); err != nil {
		return nil, err
	}
	if err := s.claim(parent, base); err != nil {
		return nil, err
	}
	b := s.batch()
	fd, err := s.tree.handle(parent)
	if err != nil {
		return nil, err
	}
	b.use(parent)
	j.dir, j.dirfd, j.name = parent, fd, b.hold(base)
	j.lo, j.hi = len(b.pieces), len(b.pieces)
	return b, nil
}

// vacate removes the directory that an earlier entry of this layer has made, if
// there is one: the new entry replaces it.
func (s *stage) vacate(parent *dir, base []byte) error {
	d := s.tree.lookup(parent, base)
	if d == nil {
		return nil
	}
	if err := s.barrier(); err != nil {
		return err
	}
	fd, err := s.tree.handle(parent)
	if err != nil {
		return err
	}
	s.tree.drop(d)
	s.lastDir = nil
	return removeAt(fd, string(base))
}

// maxRecent bounds recent. Emptying it costs a barrier.
const maxRecent = 8192

// claim sees to it that nobody is making base in parent at this moment, so that
// of two entries with one name the later one comes later. Two names with one hash
// are taken for one, which costs a barrier and does no harm.
func (s *stage) claim(parent *dir, base []byte) error {
	key := s.key(parent, base)
	if _, busy := s.recent[key]; busy || len(s.recent) >= maxRecent {
		if err := s.barrier(); err != nil {
			return err
		}
	}
	s.recent[key] = struct{}{}
	return nil
}

// settled waits until nobody is making base in parent.
func (s *stage) settled(parent *dir, base []byte) error {
	if _, busy := s.recent[s.key(parent, base)]; busy {
		return s.barrier()
	}
	return nil
}

func (s *stage) key(parent *dir, base []byte) uint64 {
	return maphash.Bytes(s.seed, base) ^ maphash.Comparable(s.seed, parent)
}

// batch is the one that is being filled.
func (s *stage) batch() *batch {
	if s.cur == nil {
		s.cur = <-s.pool.idle
		s.cur.stage = s
	}
	return s.cur
}

// flush hands the current batch to the writers.
func (s *stage) flush() {
	if s.cur == nil {
		return
	}
	s.pending.Add(1)
	s.pool.work <- s.cur
	s.cur = nil
}

// barrier waits until the writers have done all that was handed to them.
func (s *stage) barrier() error {
	s.flush()
	s.pending.Wait()
	clear(s.recent)
	if s.failed() {
		return s.err
	}
	return nil
}

// fail ends the stage; the first error stays. It may be called by writers.
func (s *stage) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
		s.broken.Store(true)
	}
}

// failed tells whether err is set, and then orders reading it after its writing.
func (s *stage) failed() bool { return s.broken.Load() }
