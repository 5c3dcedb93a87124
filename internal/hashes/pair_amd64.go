//go:build amd64 && !purego

package hashes

import (
	"bytes"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"sync"

	"golang.org/x/sys/cpu"
)

//go:generate sh -c "cd asm && go run . -out ../pair_amd64.s"

// blocks2 hashes n blocks, at least one, of two streams. asm/ generates it.
//
//go:noescape
func blocks2(n int, state0 *[8]uint32, data0 *byte, state1 *[8]uint32, data1 *byte)

// hasSHA tells whether the processor has the SHA extensions.
func hasSHA() bool

// canPair tells whether pair can be called.
var canPair = sync.OnceValue(func() bool { return cpu.X86.HasAVX && hasSHA() && marshals() })

// pair hashes n blocks, at least one, of p and of q, for streams that are between
// two blocks.
func pair(a *state, p []byte, b *state, q []byte, n int) {
	v, w := a.words(), b.words()
	size := n * sha256.BlockSize
	_, _ = p[:size], q[:size]
	blocks2(n, &v, &p[0], &w, &q[0])
	a.setWords(&v, size)
	b.setWords(&w, size)
}

// The standard library marshals 4 bytes that name the format, the words of the
// state, a block that is not full, and the length; all big-endian.
const (
	marshalMagic = "sha\x03"
	wordsAt      = len(marshalMagic)
	lengthAt     = wordsAt + sha256.Size + sha256.BlockSize
	marshalSize  = lengthAt + 8
)

// marshals tells whether the standard library still does as written above.
func marshals() bool {
	a, ok := sha256.New().(encoding.BinaryAppender)
	if !ok {
		return false
	}
	b, err := a.AppendBinary(nil)
	return err == nil && len(b) == marshalSize && bytes.HasPrefix(b, []byte(marshalMagic))
}

// words are the state's after whole blocks.
func (s *state) words() (w [8]uint32) {
	var err error
	s.memory, err = s.hash.(encoding.BinaryAppender).AppendBinary(s.memory[:0])
	if err != nil {
		panic("hashes: " + err.Error())
	}
	for i := range w {
		w[i] = binary.BigEndian.Uint32(s.memory[wordsAt+4*i:])
	}
	return w
}

// setWords makes w the state after n more bytes, whole blocks, since words.
func (s *state) setWords(w *[8]uint32, n int) {
	for i, v := range w {
		binary.BigEndian.PutUint32(s.memory[wordsAt+4*i:], v)
	}
	length := s.memory[lengthAt:]
	binary.BigEndian.PutUint64(length, binary.BigEndian.Uint64(length)+uint64(n))
	if err := s.hash.(encoding.BinaryUnmarshaler).UnmarshalBinary(s.memory); err != nil {
		panic("hashes: " + err.Error())
	}
}
