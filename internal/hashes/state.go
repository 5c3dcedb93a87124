package hashes

import (
	"crypto/sha256"
	"hash"
)

// state is a SHA-256 that is under way. All of it is the standard library's; only
// whole blocks of two are hashed here, from the state that it marshals.
type state struct {
	hash    hash.Hash
	partial int    // bytes of the last block, which is not full
	memory  []byte // for the marshaled state
}

func (s *state) write(p []byte) {
	s.hash.Write(p)
	s.partial = (s.partial + len(p)) % sha256.BlockSize
}
