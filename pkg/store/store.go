// Package store keeps images on disk as a plain OCI image layout (image-spec
// image-layout.md), so that other tools read what peel pulls.
//
//	ROOT/images/oci-layout              what kind of directory this is
//	ROOT/images/index.json              one descriptor a reference
//	ROOT/images/blobs/sha256/HEX        manifests, configs, layers
//	ROOT/images/ingest/HEX              a blob on its way in
//	ROOT/lock                           held while index.json is rewritten
//	ROOT/users                          held by all who have the store open
//
// State is files written once and renamed, plus flocks, which the kernel drops
// with the process that held them: after a kill -9 there is nothing to repair.
// A blob gets its name only when its size and digest have been checked. Blobs
// are not synced one by one: after a power cut a blob may be shorter than its
// descriptor says, and Has calls it missing, so that the next pull fetches it.
package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var (
	// ErrNotFound: no image of that name, or no blob of that digest, is stored.
	ErrNotFound = errors.New("not in the store")
	// ErrExists: the blob is stored already.
	ErrExists = errors.New("already in the store")
)

// VerifyError reports a blob that is not what its descriptor says.
type VerifyError struct {
	Want      ocispec.Descriptor
	GotSize   int64
	GotDigest digest.Digest // empty where the size alone was wrong
}

func (e *VerifyError) Error() string {
	if e.GotDigest == "" {
		return fmt.Sprintf("blob %s: %d bytes, its descriptor says %d", e.Want.Digest, e.GotSize, e.Want.Size)
	}
	return fmt.Sprintf("blob %s: content is %s", e.Want.Digest, e.GotDigest)
}

// Error is a failure of the store's own files: no room, no permission, no
// directory.
type Error struct{ Err error }

func (e *Error) Error() string { return "store: " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Store is an open store. It may be used by several goroutines, and by several
// processes at once.
type Store struct {
	root   string
	layout string   // root/images
	users  *os.File // holds the shared flock, see admit

	mu       sync.Mutex
	arrivals map[digest.Digest]*arrival // guarded by mu; blobs being delivered, or waited for, in this process
}

// Open opens the store under root and makes what is missing of it. Everything
// below root is for its owner alone: layers hold setuid programs and device
// nodes that no other user of the machine may reach (CVE-2021-41091).
func Open(root string) (*Store, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, &Error{err}
	}
	s := &Store{root: root, layout: filepath.Join(root, "images"), arrivals: map[digest.Digest]*arrival{}}
	for _, dir := range []string{filepath.Join(s.layout, "blobs", "sha256"), filepath.Join(s.layout, "ingest")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, &Error{err}
		}
	}
	if err := s.admit(); err != nil {
		return nil, &Error{err}
	}
	if err := s.initLayout(); err != nil {
		s.Close()
		return nil, &Error{err}
	}
	return s, nil
}

// Close lets go of the store. No Ingest may be open any more.
func (s *Store) Close() error { return s.users.Close() }

// Root is the directory that the store was opened with, absolute.
func (s *Store) Root() string { return s.root }

// Layout is the store's OCI image layout, for other tools to read.
func (s *Store) Layout() string { return s.layout }

// The digest must have been checked: its hexadecimal becomes a file name.
func (s *Store) blobPath(d digest.Digest) string {
	return filepath.Join(s.layout, "blobs", d.Algorithm().String(), d.Encoded())
}

func (s *Store) ingestPath(d digest.Digest) string {
	return filepath.Join(s.layout, "ingest", d.Encoded())
}
