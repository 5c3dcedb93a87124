package layers

import (
	"io"
	"runtime"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"

	"peel/pkg/layers/gzip"
	"peel/pkg/layers/inflate"
)

// maxWindow bounds what a zstd frame may make the decoder allocate. The zstd
// tool decodes up to 8 MiB unasked (RFC 8878, 3.1.1.1.2 recommends the same);
// --ultra levels, which no image pusher uses by default, reach 128 MiB.
const maxWindow = 128 << 20

// decoder appends a blob's contents to window[:pos] and returns the new end. It
// stops when the window is full or nearly so, or with an error, io.EOF at the end.
type decoder interface {
	Decode(window []byte, pos int) (int, error)
	Close() error
}

func newDecoder(c Compression, blob io.Reader) (decoder, error) {
	switch c {
	case Gzip:
		z, err := gzip.NewReader(blob)
		if err != nil {
			return nil, err
		}
		// The DiffID is a digest of all that the CRC-32s of the members cover:
		// contents that differ in one bit have another, and Finish refuses them.
		z.SkipChecksum()
		return &gzipDecoder{Reader: z}, nil
	case Zstd:
		z, err := zstd.NewReader(blob, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return plain{z.IOReadCloser()}, nil
	}
	return plain{io.NopCloser(blob)}, nil
}

// gzipDecoder lets idle processors decode a long layer with it.
type gzipDecoder struct {
	*gzip.Reader
	size  int64
	asked bool
	ahead int // goroutines that decode ahead
}

const (
	// longLayer is the output after which a layer is taken to be a long one. What
	// was decoded until then is not won back, but short layers, which are most,
	// cost no goroutines.
	longLayer = 32 << 20

	// maxAhead is how many goroutines decode ahead of one layer. With three the
	// hash, which must see all bytes in order, is slower already.
	maxAhead = 3
)

func (d *gzipDecoder) Decode(window []byte, pos int) (int, error) {
	end, err := d.Reader.Decode(window, pos)
	d.size += int64(end - pos)
	if d.size >= longLayer && !d.asked && err == nil {
		d.asked = true
		// Each open layer keeps two processors busy. To decode ahead is half as
		// much work again, and pays only with several of the others.
		if n := runtime.GOMAXPROCS(0) - 2*int(running.Load()); n >= 2 {
			d.ahead = min(n, maxAhead)
			d.Speculate(d.ahead)
		}
	}
	return end, err
}

// running counts the process's layers that goroutines work on.
var running atomic.Int32

// plain decodes what a reader reads. It looks at no history.
type plain struct{ io.ReadCloser }

func (p plain) Decode(window []byte, pos int) (int, error) {
	for len(window)-pos >= inflate.Slack {
		n, err := p.Read(window[pos:])
		pos += n
		if err != nil {
			return pos, err
		}
	}
	return pos, nil
}
