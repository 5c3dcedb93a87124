package unpack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"peel/pkg/layers"
	"peel/pkg/layers/tar"
	"peel/pkg/store"
)

// sampleImage has some of everything, in three layers, the first with a file that
// is written in parts.
func sampleImage() (blobs, *store.Image) {
	var b strings.Builder
	for i := range 300 {
		fmt.Fprintf(&b, "file usr/share/d%d/f%d text%d own=%d:%d\n", i%7, i, i, i%3, i%2)
	}
	return imageOf(
		tarOf(append(parse("dir usr; dir usr/bin; link bin usr/bin; dir etc; file etc/passwd root; dir gone; file gone/x 1; file attr x x:user.a=1; fifo p; char null 1:3 own=7:7;"+b.String()),
			entry{kind: "file", name: "large", arg: strings.Repeat("0123456789abcdef", 1<<17), mode: 0o4755, mtime: parseEntry([]string{"fifo", "x"}).mtime})),
		tarOf(parse("file bin/tool 2; file .wh.gone; hard bin/again etc/passwd; file usr/share/d1/.wh..wh..opq")),
		tarOf(parse("file etc/passwd other; dir usr mode=0711")))
}

// tap lets a test act when a blob has been read up to some byte.
type tap struct {
	Blobs
	at  int64 // of all bytes of all blobs
	do  func() error
	mu  sync.Mutex
	sum int64
}

func (t *tap) Blob(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	r, err := t.Blobs.Blob(ctx, d)
	return &tapped{r, t}, err
}

type tapped struct {
	io.ReadCloser
	t *tap
}

func (r *tapped) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p[:min(len(p), 4096)])
	r.t.mu.Lock()
	before := r.t.sum
	r.t.sum += int64(n)
	now := r.t.sum
	r.t.mu.Unlock()
	if before <= r.t.at && r.t.at < now {
		if doErr := r.t.do(); doErr != nil {
			return 0, doErr
		}
	}
	return n, err
}

func TestACancelledUnpackLeavesNothing(t *testing.T) {
	work := workDir(t)
	src, img := sampleImage()
	r := rand.New(rand.NewPCG(1, 1))
	for range 60 {
		ctx, cancel := context.WithCancel(context.Background())
		at := r.Int64N(img.Size())
		_, err := Image(ctx, &tap{Blobs: src, at: at, do: func() error { cancel(); return nil }}, img, filepath.Join(work, "d"), Options{})
		cancel()
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled at byte %d: %v", at, err)
		}
		if err == nil { // all had been read
			must(removeAt(unix.AT_FDCWD, filepath.Join(work, "d")))
		}
		nothingIn(t, work)
	}
}

// stuck is a blob whose bytes end without an end, until the context does.
type stuck struct{ blobs }

func (s stuck) Blob(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	blob := s.blobs[d.Digest]
	return io.NopCloser(io.MultiReader(bytes.NewReader(blob[:len(blob)-2048]), silence{ctx})), nil
}

type silence struct{ ctx context.Context }

func (w silence) Read([]byte) (int, error) {
	<-w.ctx.Done()
	return 0, w.ctx.Err()
}

// TestALayerThatIsWrongEndsThoseThatWait: one layer is refused while the blob of
// another, and its own, stop arriving.
func TestALayerThatIsWrongEndsThoseThatWait(t *testing.T) {
	work := workDir(t)
	src, img := imageOfText("file a 1; file b 2; file c 3", "hard . x; file y "+strings.Repeat("y", 2*layers.ChunkSize))
	_, err := Image(context.Background(), stuck{src}, img, filepath.Join(work, "d"), Options{})
	if !errors.Is(err, ErrRoot) {
		t.Errorf("%v: want ErrRoot", err)
	}
	nothingIn(t, work)
}

func TestWhatIsWrongWithALayerIsSaidAndLeavesNothing(t *testing.T) {
	mismatch, tarError := new(*layers.MismatchError), new(*tar.Error)
	errRead := errors.New("connection reset")
	for _, c := range []struct {
		name  string
		spoil func(src blobs, img *store.Image) Blobs
		is    error
		as    any
	}{
		{"the DiffID is another one", func(src blobs, img *store.Image) Blobs {
			img.Config.RootFS.DiffIDs[1] = digest.FromString("another")
			return src
		}, nil, mismatch},
		{"junk behind the tar", func(src blobs, img *store.Image) Blobs {
			d := img.Manifest.Layers[1].Digest
			src[d] = append(bytes.Clone(src[d]), "junk"...)
			return src
		}, nil, mismatch},
		{"the tar is cut short", func(src blobs, img *store.Image) Blobs {
			d := img.Manifest.Layers[1].Digest
			src[d] = src[d][:512]
			return src
		}, io.ErrUnexpectedEOF, tarError},
		{"a header is damaged", func(src blobs, img *store.Image) Blobs {
			d := img.Manifest.Layers[1].Digest
			src[d] = bytes.Clone(src[d])
			src[d][3] ^= 1
			return src
		}, tar.ErrHeader, tarError},
		{"the blob cannot be had", func(src blobs, img *store.Image) Blobs {
			delete(src, img.Manifest.Layers[1].Digest)
			return src
		}, os.ErrNotExist, nil},
		{"the blob breaks off", func(src blobs, img *store.Image) Blobs {
			return &tap{Blobs: src, at: img.Size() - 2000, do: func() error { return errRead }}
		}, errRead, nil},
		{"not a layer", func(src blobs, img *store.Image) Blobs {
			img.Manifest.Layers[1].MediaType = "application/vnd.in-toto+json"
			return src
		}, layers.ErrUnknownMediaType, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			work := workDir(t)
			src, img := sampleImage()
			_, err := Image(context.Background(), c.spoil(src, img), img, filepath.Join(work, "d"), Options{})
			var layer *LayerError
			if !errors.As(err, &layer) {
				t.Fatalf("%v: want a LayerError", err)
			}
			if c.is != nil && !errors.Is(err, c.is) || c.as != nil && !errors.As(err, c.as) {
				t.Errorf("%v: want %v %T", err, c.is, c.as)
			}
			nothingIn(t, work)
		})
	}
}

// TestDiskFull fills a small file system with bytes, and another with names.
func TestDiskFull(t *testing.T) {
	for _, c := range []struct{ name, options string }{
		{"of bytes", "size=1m"},
		{"of inodes", "nr_inodes=100"},
	} {
		t.Run(c.name, func(t *testing.T) {
			mnt := t.TempDir()
			if err := unix.Mount("tmpfs", mnt, "tmpfs", 0, c.options); err != nil {
				t.Skipf("SKIPPED: needs to mount a tmpfs: %v", err)
			}
			defer unix.Unmount(mnt, unix.MNT_DETACH)
			src, img := sampleImage()
			for i := range img.Manifest.Layers { // what a compressed layer says
				img.Manifest.Layers[i].Size = 1
			}
			_, err := Image(context.Background(), src, img, filepath.Join(mnt, "d"), Options{})
			var e *EntryError
			if !errors.Is(err, unix.ENOSPC) || !errors.As(err, &e) && !strings.Contains(err.Error(), "staging directory") {
				t.Errorf("%v: want ENOSPC for an entry or a directory", err)
			}
			nothingIn(t, mnt)
		})
	}
	t.Run("foreseen", func(t *testing.T) {
		work := workDir(t)
		src, img := sampleImage()
		img.Manifest.Layers[0].Size = 1 << 60
		_, err := Image(context.Background(), src, img, filepath.Join(work, "d"), Options{})
		if e := (*SpaceError)(nil); !errors.As(err, &e) || e.Need < 1<<60 {
			t.Errorf("%v: want a SpaceError", err)
		}
		nothingIn(t, work)
	})
}

// child runs Image in a process of its own, which tells its parent when it has
// read up to the byte that it was given, and then waits to be killed.
func TestMain(m *testing.M) {
	dir, at := os.Getenv("PEEL_UNPACK_CHILD"), int64(0)
	if dir == "" {
		code := m.Run()
		if err := goleak.Find(); err != nil && code == 0 {
			fmt.Println("goroutines left over:", err)
			code = 1
		}
		os.Exit(code)
	}
	_, err := fmt.Sscan(os.Getenv("PEEL_UNPACK_AT"), &at)
	must(err)
	src, img := sampleImage()
	_, err = Image(context.Background(), &tap{Blobs: src, at: at, do: func() error {
		fmt.Println("here")
		select {}
	}}, img, dir, Options{Form: Rootfs})
	fmt.Println("done:", err)
}

// TestTheNextUnpackRemovesWhatAKilledOneLeft kills a process with -9 at random
// bytes. The same command again gives the right result and leaves nothing else;
// what a living process stages is not touched.
func TestTheNextUnpackRemovesWhatAKilledOneLeft(t *testing.T) {
	needRoot(t)
	src, img := sampleImage()
	work := workDir(t)
	if _, err := Image(context.Background(), src, img, filepath.Join(work, "whole"), Options{Form: Rootfs}); err != nil {
		t.Fatal(err)
	}
	want := list(t, filepath.Join(work, "whole"))
	rounds := number("PEEL_KILLS", 15)
	r := rand.New(rand.NewPCG(uint64(number("PEEL_SEED", 1)), 1))
	for range rounds {
		place := workDir(t)
		dir := filepath.Join(place, "d")
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "PEEL_UNPACK_CHILD="+dir, fmt.Sprint("PEEL_UNPACK_AT=", r.Int64N(img.Size())))
		out, err := cmd.StdoutPipe()
		must(err)
		must(cmd.Start())
		if _, err := io.ReadFull(out, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		// It lives and holds its lock: another one beside it leaves it alone.
		if _, err := Image(context.Background(), src, img, filepath.Join(place, "other"), Options{Form: Rootfs}); err != nil {
			t.Fatal(err)
		}
		if names := namesIn(place); len(names) != 2 || names[1] != "other" {
			t.Fatalf("beside a living process: %v", names)
		}
		must(cmd.Process.Kill())
		_ = cmd.Wait()
		if _, err := os.Lstat(dir); !os.IsNotExist(err) {
			t.Fatalf("DIR after a kill: %v", err)
		}
		if _, err := Image(context.Background(), src, img, dir, Options{Form: Rootfs}); err != nil {
			t.Fatal(err)
		}
		if names := namesIn(place); strings.Join(names, " ") != "d other" {
			t.Fatalf("after the next one: %v", names)
		}
		if got := list(t, dir); got != want {
			t.Fatalf("got:\n%s\nwant:\n%s", got, want)
		}
	}
}

func namesIn(dir string) []string {
	entries, err := os.ReadDir(dir)
	must(err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
