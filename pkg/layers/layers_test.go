package layers

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"

	"peel/pkg/layers/inflate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var mediaTypes = map[Compression]string{
	None: ocispec.MediaTypeImageLayer,
	Gzip: ocispec.MediaTypeImageLayerGzip,
	Zstd: ocispec.MediaTypeImageLayerZstd,
}

// pack makes a blob.
func pack(t testing.TB, c Compression, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch c {
	case None:
		return data
	case Gzip:
		w = gzip.NewWriter(&b)
	case Zstd:
		z, err := zstd.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		w = z
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// contents are n bytes that compress about as a layer does.
func contents(n int) []byte {
	rnd := rand.New(rand.NewPCG(1, uint64(n)))
	words := make([][]byte, 1000)
	for i := range words {
		words[i] = make([]byte, 3+rnd.IntN(20))
		for j := range words[i] {
			words[i][j] = byte(rnd.Uint32())
		}
	}
	var b []byte
	for len(b) < n {
		b = append(b, words[rnd.IntN(len(words))]...)
	}
	return b[:n]
}

var sizes = []int{0, 1, 511, inflate.History, ChunkSize - inflate.Slack, ChunkSize - 1, ChunkSize, ChunkSize + 1, 2 * ChunkSize, 2_000_000}

func TestALayerComesBackAsItWasPacked(t *testing.T) {
	for c, mediaType := range mediaTypes {
		for _, n := range sizes {
			t.Run(fmt.Sprintf("%s/%d", c, n), func(t *testing.T) {
				want := contents(n)
				blob := pack(t, c, want)
				for _, how := range []string{"chunks", "bytes", "not at all", "by halves"} {
					var src io.Reader = bytes.NewReader(blob)
					if how == "by halves" {
						src = iotest.HalfReader(src)
					}
					r, err := Open(mediaType, src)
					if err != nil {
						t.Fatal(err)
					}
					defer r.Close()
					var got []byte
					switch how {
					case "chunks", "by halves":
						got = chunksOf(t, r)
					case "bytes":
						if got, err = io.ReadAll(r); err != nil {
							t.Fatal(err)
						}
					case "not at all":
						got = want
					}
					if !bytes.Equal(got, want) {
						t.Errorf("%s: other contents", how)
					}
					if err := r.Finish(digest.FromBytes(want)); err != nil {
						t.Error(how, err)
					}
					if r.Size() != int64(n) {
						t.Errorf("%s: size %d", how, r.Size())
					}
					if _, err := r.Next(); err != io.EOF {
						t.Errorf("%s: after the end: %v", how, err)
					}
				}
			})
		}
	}
}

// chunksOf reads all of r by chunks, and lets each go only two chunks later, as
// writers do.
func chunksOf(t *testing.T, r *Reader) (all []byte) {
	t.Helper()
	var held []*Chunk
	for {
		c, err := r.Next()
		if err == nil {
			if len(c.Bytes) == 0 || len(c.Bytes) > ChunkSize {
				t.Errorf("a chunk of %d bytes", len(c.Bytes))
			}
			held = append(held, c)
		}
		if len(held) > 2 || err != nil && len(held) > 0 {
			all = append(all, held[0].Bytes...)
			held[0].Release()
			held = held[1:]
			continue
		}
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheMagicBytesDecideAndBothAreReported(t *testing.T) {
	want := contents(1000)
	for declared, mediaType := range mediaTypes {
		for actual := range mediaTypes {
			r, err := Open(mediaType, bytes.NewReader(pack(t, actual, want)))
			if err != nil {
				t.Fatal(err)
			}
			if r.Declared != declared || r.Actual != actual {
				t.Errorf("%s declared as %s: seen as %s declared as %s", actual, declared, r.Actual, r.Declared)
			}
			if err := r.Finish(digest.FromBytes(want)); err != nil {
				t.Error(err)
			}
			r.Close()
		}
	}
}

func TestOtherFormatsAreNamed(t *testing.T) {
	for name, head := range map[string]string{
		"xz": "\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4", "bzip2": "BZh91AY&SY\x01\x02", "lz4": "\x04\x22\x4d\x18\x64\x40\xa7\x00\x00\x00",
	} {
		_, err := Open(ocispec.MediaTypeImageLayerGzip, bytes.NewReader([]byte(head)))
		var other *CompressionError
		if !errors.As(err, &other) || other.Name != name {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The first name in a tar may look a little like it.
	r, err := Open(ocispec.MediaTypeImageLayer, bytes.NewReader([]byte("BZh9.txt\x00\x00\x00")))
	if err != nil || r.Actual != None {
		t.Fatal(err)
	}
	r.Close()
}

func TestOnlyLayersAreOpened(t *testing.T) {
	for _, mediaType := range []string{
		"", "text/plain", "application/vnd.in-toto+json", ocispec.MediaTypeImageConfig,
		ocispec.MediaTypeImageLayerGzip + "+encrypted", "application/vnd.oci.image.layer.v1.tar+xz",
	} {
		if _, err := Open(mediaType, bytes.NewReader(nil)); !errors.Is(err, ErrUnknownMediaType) {
			t.Errorf("%q: %v", mediaType, err)
		}
	}
	for mediaType, want := range map[string]Compression{
		"application/vnd.docker.image.rootfs.diff.tar.gzip":            Gzip,
		"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip":    Gzip,
		"application/vnd.docker.image.rootfs.diff.tar":                 None,
		"application/vnd.docker.image.rootfs.diff.tar.zstd":            Zstd,
		"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": Gzip,
		"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": Zstd,
		"application/vnd.oci.image.layer.nondistributable.v1.tar":      None,
	} {
		if got, err := compressionOf(mediaType); got != want || err != nil {
			t.Errorf("%s: %q, %v", mediaType, got, err)
		}
	}
}

func TestAnotherTarIsAMismatch(t *testing.T) {
	for c, mediaType := range mediaTypes {
		for _, n := range sizes {
			data := contents(n)
			r, err := Open(mediaType, bytes.NewReader(pack(t, c, data)))
			if err != nil {
				t.Fatal(err)
			}
			want := digest.FromString("another")
			var mismatch *MismatchError
			if err := r.Finish(want); !errors.As(err, &mismatch) || mismatch.Want != want || mismatch.Got != digest.FromBytes(data) {
				t.Errorf("%s, %d bytes: %v", c, n, err)
			}
			r.Close()
		}
	}
}

func TestMembersAndBytesBehindTheTarCount(t *testing.T) {
	data := contents(700_000)
	blob := append(pack(t, Gzip, data[:300_000]), pack(t, Gzip, data[300_000:])...)
	r, err := Open(mediaTypes[Gzip], bytes.NewReader(blob))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c, err := r.Next() // a tar that ends here, say
	if err != nil {
		t.Fatal(err)
	}
	c.Release()
	if err := r.Finish(digest.FromBytes(data)); err != nil {
		t.Error(err)
	}
}

func TestABrokenBlobEndsInItsError(t *testing.T) {
	broken := errors.New("broken")
	for c, mediaType := range mediaTypes {
		for _, n := range sizes[3:] {
			data := contents(n)
			blob := pack(t, c, data)
			for _, cut := range []int{len(blob) / 2, len(blob) - 1} {
				for claim, src := range map[string]io.Reader{
					"cut off":      bytes.NewReader(blob[:cut]),
					"reader fails": io.MultiReader(bytes.NewReader(blob[:cut]), iotest.ErrReader(broken)),
				} {
					r, err := Open(mediaType, src)
					if err != nil {
						t.Fatal(err)
					}
					err = r.Finish(digest.FromBytes(data))
					var mismatch *MismatchError
					switch {
					case claim == "reader fails" && errors.Is(err, broken):
					case claim == "cut off" && c == None && errors.As(err, &mismatch):
					case claim == "cut off" && errors.Is(err, io.ErrUnexpectedEOF):
					default:
						t.Errorf("%s of %d bytes, %s at %d: %v", c, n, claim, cut, err)
					}
					if _, again := r.Next(); claim == "reader fails" && again != err {
						t.Errorf("%s: then %v", claim, again)
					}
					r.Close()
				}
			}
		}
	}
}

func TestACorruptLayerSaysWhere(t *testing.T) {
	data := contents(1_000_000)
	blob := pack(t, Gzip, data)
	whole := int64(len(blob))
	blob = append(append(blob, blob[:10]...), 7) // a member that begins with a block of type 3
	r, err := Open(mediaTypes[Gzip], bytes.NewReader(blob))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var corrupt *inflate.CorruptError
	if err := r.Finish(digest.FromBytes(data)); !errors.As(err, &corrupt) || corrupt.Fault != inflate.BadBlockType || corrupt.Offset != whole+11 {
		t.Error(err)
	}
}

func TestClosingAnywhereLeavesNothing(t *testing.T) {
	data := contents(2_000_000)
	for c, mediaType := range mediaTypes {
		blob := pack(t, c, data)
		for chunks := range 10 {
			r, err := Open(mediaType, bytes.NewReader(blob))
			if err != nil {
				t.Fatal(err)
			}
			for range chunks {
				c, err := r.Next()
				if err != nil {
					break
				}
				c.Release()
			}
			r.Close()
			if _, err := r.Next(); err == nil {
				t.Error("a chunk after Close")
			}
			r.Close()
		}
	}
	// goleak, in TestMain, sees to the goroutines.
}

func TestCloseReturnsOnceTheBlobDoes(t *testing.T) {
	data := contents(2_000_000)
	pr, pw := io.Pipe()
	go pw.Write(pack(t, Gzip, data)[:800_000]) // and then nothing
	r, err := Open(mediaTypes[Gzip], pr)
	if err != nil {
		t.Fatal(err)
	}
	c, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	c.Release()
	pr.Close()
	r.Close()
}

// ahead counts what has been read of a blob beyond what has been taken.
type ahead struct {
	io.Reader
	taken, read, most atomic.Int64
}

func (a *ahead) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	if d := a.read.Add(int64(n)) - a.taken.Load(); d > a.most.Load() {
		a.most.Store(d)
	}
	return n, err
}

func TestAStalledReaderStallsTheBlob(t *testing.T) {
	const size = 20 << 20
	src := &ahead{Reader: io.LimitReader(zeros{}, size)}
	r, err := Open(mediaTypes[None], src)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for {
		c, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		src.taken.Add(int64(len(c.Bytes)))
		c.Release()
	}
	if most := src.most.Load(); most > 3<<20 {
		t.Errorf("%d bytes were in flight", most)
	}
	if src.read.Load() != size {
		t.Errorf("%d bytes were read", src.read.Load())
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestASmallLayerStartsNoGoroutine(t *testing.T) {
	before := goleak.IgnoreCurrent()
	r, err := Open(mediaTypes[Gzip], bytes.NewReader(pack(t, Gzip, contents(100_000))))
	if err != nil {
		t.Fatal(err)
	}
	c, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
	c.Release()
	r.Close()
}

func TestALongLayerIsDecodedAheadWhereProcessorsAreIdle(t *testing.T) {
	data := bytes.Repeat(contents(20_000), 2000)
	blob, frames := pack(t, Gzip, data), bytes.Repeat(pack(t, Zstd, data[:len(data)/20]), 20)
	for _, c := range []struct {
		procs, others int
		ahead         int
	}{{8, 0, 3}, {4, 0, 2}, {4, 1, 0}, {3, 0, 0}, {1, 0, 0}} {
		for name, n := range map[string]int{
			"gzip":           aheadOf(t, Gzip, data, blob, c.procs, c.others),
			"frames of zstd": aheadOf(t, Zstd, data, frames, c.procs, c.others),
		} {
			if n != c.ahead {
				t.Errorf("%s, %d processors, %d other layers: %d goroutines decode ahead, want %d", name, c.procs, c.others, n, c.ahead)
			}
		}
	}
	if n := aheadOf(t, Zstd, data, pack(t, Zstd, data), 8, 0); n != 0 {
		t.Errorf("one frame: %d goroutines decode ahead", n)
	}
}

// aheadOf reads a layer and tells how many goroutines decoded ahead of it.
func aheadOf(t *testing.T, c Compression, data, blob []byte, procs, others int) int {
	t.Helper()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
	running.Add(int32(others))
	defer running.Add(-int32(others))
	r, err := Open(mediaTypes[c], bytes.NewReader(blob))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Finish(digest.FromBytes(data)); err != nil {
		t.Error(err)
	}
	if d, ok := r.pipe.dec.(*zstdDecoder); ok {
		return d.ahead
	}
	return r.pipe.dec.(*gzipDecoder).ahead
}

func TestAChunkIsNotReusedWhileItIsHeld(t *testing.T) {
	data := contents(2_000_000)
	r, err := Open(mediaTypes[Gzip], bytes.NewReader(pack(t, Gzip, data)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	first, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Finish(digest.FromBytes(data)); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(first.Bytes, data[:len(first.Bytes)]) {
		t.Error("the first chunk has changed")
	}
	first.Release()
}

func TestReleasingTooOftenPanics(t *testing.T) {
	c := NewChunk([]byte("x"), nil)
	c.Release()
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	c.Release()
}
