//go:build !amd64 || purego

package hashes

// Elsewhere each stream is hashed by itself.

func canPair() bool { return false }

func pair(*state, []byte, *state, []byte, int) { panic("hashes: streams that cannot be paired") }
