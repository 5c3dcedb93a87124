package unpack

import (
	"bytes"
	"errors"
	"io"

	"golang.org/x/sys/unix"

	"peel/pkg/layers/tar"
)

// largeBytes is from where on a file is written in parts while it arrives. Below,
// it waits until it is there as a whole, in the chunks of one batch.
const largeBytes = batchBytes

// file hands over a file with its bytes.
func (s *stage) file(parent *dir, base []byte, a attrs, h *tar.Header, r *tar.Reader) error {
	if h.Size >= largeBytes {
		return s.largeFile(parent, base, a, h, r)
	}
	j := job{kind: makeFile, attrs: a, size: h.Size}
	b, err := s.place(&j, parent, base)
	if err != nil {
		return err
	}
	for {
		p, err := r.Piece()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		b.add(p)
	}
	j.hi = len(b.pieces)
	return s.put(j)
}

// largeFile creates a file here and now and hands over its parts.
func (s *stage) largeFile(parent *dir, base []byte, a attrs, h *tar.Header, r *tar.Reader) error {
	if err := s.vacate(parent, base); err != nil {
		return err
	}
	if err := s.settled(parent, base); err != nil {
		return err
	}
	dirfd, err := s.tree.handle(parent)
	if err != nil {
		return err
	}
	s.pathBuf = nul(s.pathBuf, string(base))
	fd, err := createAnew(dirfd, s.pathBuf, a.real&0o777)
	if err != nil {
		return &EntryError{Name: string(h.Name), Op: "create", Err: err}
	}
	f := &largeFile{fd: fd, name: string(h.Name), attrs: a, size: h.Size, stage: s}
	f.refs.Store(1)
	defer f.release()
	for {
		p, err := r.Piece()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if zeros(p.Bytes) {
			continue // stays a hole
		}
		if s.failed() {
			return s.err
		}
		b := s.batch()
		b.add(p)
		f.refs.Add(1)
		n := len(b.pieces)
		if err := s.put(job{kind: writePart, large: f, lo: n - 1, hi: n}); err != nil {
			return err
		}
	}
}

// holeBytes is the shortest run of zeros worth leaving out.
const holeBytes = 64 << 10

// zeros tells whether b is a long run of zeros.
func zeros(b []byte) bool {
	return len(b) >= holeBytes && b[0] == 0 && b[len(b)-1] == 0 && bytes.Equal(b[1:], b[:len(b)-1])
}

// finishLarge completes a file whose parts are all written. It is called once, by
// whoever was last.
func (s *stage) finishLarge(f *largeFile) {
	if s.failed() {
		unix.Close(f.fd)
		return
	}
	op, err := "write", unix.Ftruncate(f.fd, f.size) // a hole at the end
	if err == nil {
		op, err = settle(s.shared, f.fd, s.caller.uid, s.caller.gid, ^uint32(0), &f.attrs, label{name: f.name})
	}
	if closeErr := unix.Close(f.fd); err == nil {
		op, err = "close", closeErr
	}
	if err != nil {
		if e := (*EntryError)(nil); !errors.As(err, &e) {
			err = &EntryError{Name: f.name, Op: op, Err: err}
		}
		s.fail(err)
	}
}
