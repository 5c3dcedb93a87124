// Package hashes computes the SHA-256 of several streams at once.
//
// Each SHA-256 instruction of a processor waits for the one before, so a stream
// alone leaves a third of the unit idle. Two streams that are hashed in turns,
// round by round, in one thread, take 1.5 times the bytes in the same time. So a
// stream's owner need not hash by himself: he adds pieces, and a few goroutines for
// the whole process hash those of all streams, two at a time:
//
//	blob   --> [piece piece]  \
//	layer  --> [piece]         +--> goroutine: two streams at a time
//	layer  --> [piece piece]  /
//
// Where processors are plenty, each stream has a goroutine to itself, which is
// the faster way though the dearer one. Where they are few, a stream's pieces wait
// a little for those of another. The goroutines end when there is nothing to do.
package hashes

import (
	"crypto/sha256"
	"sync"
)

// depth is how many pieces of a stream may wait, the one in work included.
const depth = 4

// Stream is a hash.Hash that need not hash where it is called. It is for one
// goroutine.
type Stream struct {
	hall *hall

	state // a worker's as long as there are pieces, else the caller's

	// Guarded by hall.mu.
	awaited bool
	pieces  []piece   // the first may be in work
	fewer   sync.Cond // there are fewer pieces
}

// piece is bytes to be hashed, and who wants to know when that is done, or nil.
type piece struct {
	data  []byte
	owner Owner
}

// Owner is who lent a stream some bytes.
type Owner interface {
	// Release gives the bytes back. Other streams wait until it returns.
	Release()
}

// New returns a stream with no bytes.
func New() *Stream { return everyone.stream() }

func (h *hall) stream() *Stream {
	s := &Stream{hall: h, state: state{hash: sha256.New()}, pieces: make([]piece, 0, depth)}
	s.fewer.L = &h.mu
	return s
}

// Add gives the stream its next bytes, which must not change until owner, unless
// nil, is given them back. It waits while too many wait to be hashed.
func (s *Stream) Add(data []byte, owner Owner) {
	s.hall.mu.Lock()
	defer s.hall.mu.Unlock()
	for len(s.pieces) == depth {
		s.fewer.Wait()
	}
	s.pieces = append(s.pieces, piece{data, owner})
	if len(s.pieces) == 1 {
		s.hall.waiting = append(s.hall.waiting, s)
	}
	s.hall.call()
}

// Wait returns when all bytes that were added have been hashed.
func (s *Stream) Wait() {
	s.hall.mu.Lock()
	defer s.hall.mu.Unlock()
	s.awaited = true
	s.hall.call()
	for len(s.pieces) > 0 {
		s.fewer.Wait()
	}
	s.awaited = false
}

// Write hashes the stream's next bytes in the caller's goroutine.
func (s *Stream) Write(p []byte) (int, error) {
	s.Wait()
	s.write(p)
	return len(p), nil
}

// Sum appends the digest of all bytes so far to b.
func (s *Stream) Sum(b []byte) []byte {
	s.Wait()
	return s.hash.Sum(b)
}

// Reset forgets all bytes.
func (s *Stream) Reset() {
	s.Wait()
	s.partial = 0
	s.hash.Reset()
}

// Size is that of a digest.
func (s *Stream) Size() int { return sha256.Size }

// BlockSize is SHA-256's.
func (s *Stream) BlockSize() int { return sha256.BlockSize }
