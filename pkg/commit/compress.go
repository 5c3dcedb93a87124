package commit

import (
	"fmt"
	"io"
	"runtime"

	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/pkg/layers"
)

// compressor returns what a layer's media type is and how its tar is compressed.
func compressor(c layers.Compression) (mediaType string, compress func(io.Writer) (io.WriteCloser, error), err error) {
	switch c {
	case layers.Gzip, "":
		return ocispec.MediaTypeImageLayerGzip, func(w io.Writer) (io.WriteCloser, error) {
			return newGzipWriter(w, runtime.GOMAXPROCS(0)), nil
		}, nil
	case layers.Zstd:
		return ocispec.MediaTypeImageLayerZstd, func(w io.Writer) (io.WriteCloser, error) {
			return zstd.NewWriter(w, zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)))
		}, nil
	case layers.None:
		return ocispec.MediaTypeImageLayer, func(w io.Writer) (io.WriteCloser, error) { return uncompressed{w}, nil }, nil
	}
	return "", nil, fmt.Errorf("compression %q: want gzip, zstd or none", c)
}

type uncompressed struct{ io.Writer }

func (uncompressed) Close() error { return nil }
