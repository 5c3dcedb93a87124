package layers

import (
	"io"
	"runtime"
	"sync/atomic"

	"peel/pkg/layers/gzip"
	"peel/pkg/layers/inflate"
	"peel/pkg/layers/zstd"
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
		z, err := zstd.NewReader(blob, maxWindow)
		if err != nil {
			return nil, err
		}
		return &zstdDecoder{Reader: z}, nil
	}
	return plain{io.NopCloser(blob)}, nil
}

// gzipDecoder lets idle processors decode a long layer with it.
type gzipDecoder struct {
	*gzip.Reader
	help
}

func (d *gzipDecoder) Decode(window []byte, pos int) (int, error) {
	end, err := d.Reader.Decode(window, pos)
	if d.isDue(end-pos) && err == nil {
		d.ask(d.Speculate)
	}
	return end, err
}

// zstdDecoder does the same where a layer's frames are short.
type zstdDecoder struct {
	*zstd.Reader
	help
}

func (d *zstdDecoder) Decode(window []byte, pos int) (int, error) {
	end, err := plain{d.Reader}.Decode(window, pos)
	if d.isDue(end-pos) && err == nil && d.Frames() >= someFrames {
		d.ask(d.Ahead)
	}
	return end, err
}

// help is what a decoder knows of others that decode its layer with it.
type help struct {
	size    int64 // of the output so far
	isAsked bool
	ahead   int // goroutines that decode ahead
}

const (
	// longLayer is the output after which a layer is taken to be a long one. What
	// was decoded until then is not won back, but short layers, which are most,
	// cost no goroutines.
	longLayer = 32 << 20

	// maxAhead is how many goroutines decode ahead of one layer. With three the
	// hash, which must see all bytes in order, is slower already.
	maxAhead = 3

	// someFrames in longLayer are short enough to decode some of them at once.
	someFrames = 4
)

// isDue tells, once, that a layer is a long one. n is how much longer it has become.
func (h *help) isDue(n int) bool {
	h.size += int64(n)
	if h.isAsked || h.size < longLayer {
		return false
	}
	h.isAsked = true
	return true
}

// ask starts goroutines if processors are idle. Each open layer keeps two busy. To
// decode gzip ahead is half as much work again, and pays only with several others.
func (h *help) ask(start func(n int)) {
	if n := runtime.GOMAXPROCS(0) - 2*int(running.Load()); n >= 2 {
		h.ahead = min(n, maxAhead)
		start(h.ahead)
	}
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
