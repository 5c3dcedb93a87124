package image

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"

	"peel/pkg/image/merge"
	"peel/pkg/layers"
	"peel/pkg/layers/tar"
)

// scan reads the headers of a layer that is in the cache.
func (f *fetcher) scan(ctx context.Context, i int, ready *files) (*merge.Layer, error) {
	file, err := os.Open(ready.tar)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	s := &scanner{f: file, size: ready.tarSize}
	s.Reader = tar.NewReader(s.source(), f.job.Limits.Tar)
	defer s.Close()
	return merge.Read(ctx, f.job, s, i, ready.tarSize, s)
}

// scanner reads a tar's headers and passes over its bodies.
type scanner struct {
	*tar.Reader
	f    io.ReaderAt
	size int64
	pos  int64 // where the next chunk begins
	skip int64 // before it, nothing is needed
	end  int64 // of the file that holds sparse files
	buf  []byte
	// compare, unless nil, is the file that holds sparse files, to be compared.
	compare io.ReaderAt
}

// errDiffers: a sparse file is not what the tar has.
var errDiffers = errors.New("a file with holes differs")

// Next is tar.Reader's, and notes that the entry's body is not needed.
func (s *scanner) Next() (*tar.Header, error) {
	h, err := s.Reader.Next()
	if err == nil && (s.compare == nil || !h.Sparse) {
		s.skip = h.BodyOffset + wholeBlocks(merge.Stored(h))
	}
	return h, err
}

// Expand tells where a sparse file went when the layer was fetched.
func (s *scanner) Expand(h *tar.Header, r merge.Archive) (int64, error) {
	off := s.end
	s.end += wholeBlocks(h.Size)
	for s.compare != nil {
		p, err := r.Piece()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, err
		}
		got := make([]byte, len(p.Bytes))
		if _, err := s.compare.ReadAt(got, off+p.Off); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if !bytes.Equal(got, p.Bytes) {
			return 0, errDiffers
		}
	}
	return off, nil
}

// source is what the tar.Reader reads: not the scanner itself, whose Next is
// another one.
func (s *scanner) source() tar.Source { return (*scannerChunks)(s) }

type scannerChunks scanner

// scanBytes is how much is read at a time: many headers of small files, and not
// much for the sake of one.
const scanBytes = 32 << 10

// zeros stand for what is passed over.
var zeros [layers.ChunkSize]byte

func (s *scannerChunks) Next() (*layers.Chunk, error) {
	if s.pos >= s.size {
		return nil, io.EOF
	}
	if n := min(s.skip, s.size) - s.pos; n > 0 {
		n = min(n, int64(len(zeros)))
		s.pos += n
		return layers.NewChunk(zeros[:n], nil), nil
	}
	if s.buf == nil {
		s.buf = make([]byte, scanBytes)
	}
	// The Reader has given the last chunk back before it asks for the next.
	n := min(s.size-s.pos, int64(len(s.buf)))
	got, err := s.f.ReadAt(s.buf[:n], s.pos)
	if got == 0 && err != nil {
		return nil, err
	}
	s.pos += int64(got)
	return layers.NewChunk(s.buf[:got], nil), nil
}
