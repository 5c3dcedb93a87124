// Prepare measures what it takes to make an image of a local OCI layout ready:
//
//	go run ./bench/prepare [-rounds N] [-dir DIR] LAYOUT
//	go run ./bench/prepare -use [-exec PROGRAM] [-rounds N] [-dir DIR] LAYOUT
//
// With -use it measures what it costs to use it then, see reads.go. Without,
// each round does all variants, one after the other, each into a new directory
// below DIR, and the next round begins with another one. Printed are medians and
// minima of wall time and of this process's CPU time. Nothing is deleted before the
// end: ext4 without a journal creates files slowly after many were removed.
//
//	read     what all share: layers are read, decompressed and hashed, one by one
//	files    unpack.Image, the way that always works
//	index    image.Prepare with nothing in the cache: tars and an index
//	again    image.Prepare with the tars in the cache: their headers are read, an index
//	mount    Prepared.Tree, where the kernel can
//	file     image.WriteFile, as peel unpack --to erofs
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"peel/e2e/layout"
	"peel/pkg/image"
	"peel/pkg/layers"
	"peel/pkg/store"
	"peel/pkg/unpack"
)

func main() {
	rounds := flag.Int("rounds", 5, "rounds")
	dir := flag.String("dir", "", "where to work; default: the temporary directory")
	using := flag.Bool("use", false, "measure reading and executing, beside the same in files")
	program := flag.String("exec", "/bin/true", "the `PROGRAM` of the image that -use executes")
	flag.Parse()
	do := measure
	if *using {
		do = func(path, dir string, rounds int) error { return use(path, dir, *program, rounds) }
	}
	if err := do(flag.Arg(0), *dir, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "prepare:", err)
		os.Exit(1)
	}
}

// bench is one measurement.
type bench struct {
	blobs blobs
	img   *store.Image
	dir   string // of this round
	cache *image.Cache
}

func measure(path, dir string, rounds int) (err error) {
	b, work, err := begin(path, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()

	variants := []struct {
		name string
		run  func() error
	}{{"read", b.read}, {"files", b.files}, {"index", b.index}, {"again", b.again}, {"mount", b.mount}, {"file", b.file}}
	walls, cpus := make([][]float64, len(variants)), make([][]float64, len(variants))
	for r := range rounds + 1 { // the first is for warming up
		b.dir = filepath.Join(work, fmt.Sprint(r))
		if err := os.Mkdir(b.dir, 0o700); err != nil {
			return err
		}
		if b.cache, err = image.Open(b.dir + "/store"); err != nil {
			return err
		}
		order := []int{0, 1, 2, 3, 4, 5} // index, again and mount go together
		if r%2 == 1 {
			order = []int{5, 2, 3, 4, 1, 0}
		}
		for _, v := range order {
			start, before := time.Now(), cpu()
			if err := variants[v].run(); err != nil {
				return fmt.Errorf("%s: %w", variants[v].name, err)
			}
			if r > 0 {
				walls[v] = append(walls[v], time.Since(start).Seconds())
				cpus[v] = append(cpus[v], cpu()-before)
			}
		}
	}
	fmt.Printf("%-6s %10s %10s %10s %10s\n", "", "wall", "min", "CPU", "min")
	for v, x := range variants {
		slices.Sort(walls[v])
		slices.Sort(cpus[v])
		fmt.Printf("%-6s %10.4f %10.4f %10.4f %10.4f\n", x.name, walls[v][rounds/2], walls[v][0], cpus[v][rounds/2], cpus[v][0])
	}
	return nil
}

// begin opens the layout's image, and makes a directory to work in.
func begin(path, dir string) (b *bench, work string, err error) {
	b = &bench{}
	if b.blobs.Dir, err = layout.Open(path); err != nil {
		return nil, "", err
	}
	if b.img, err = b.blobs.image(); err != nil {
		return nil, "", err
	}
	unix.Umask(0)
	work, err = os.MkdirTemp(dir, "peel-bench-")
	return b, work, err
}

func cpu() float64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

func (b *bench) read() error {
	for i, d := range b.img.Manifest.Layers {
		f, err := b.blobs.Blob(context.Background(), d)
		if err != nil {
			return err
		}
		r, err := layers.Open(d.MediaType, f)
		if err == nil {
			err = r.Finish(b.img.Config.RootFS.DiffIDs[i])
			r.Close()
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) files() error {
	_, err := unpack.Image(context.Background(), b.blobs, b.img, b.dir+"/rootfs", unpack.Options{Form: unpack.Rootfs})
	return err
}

func (b *bench) index() error {
	p, err := b.cache.Prepare(context.Background(), b.blobs, b.img, image.Options{})
	if err != nil {
		return err
	}
	return p.Close()
}

func (b *bench) again() error {
	other := *b.img
	other.Descriptor.Digest = b.img.Manifest.Config.Digest // as if of another image
	p, err := b.cache.Prepare(context.Background(), b.blobs, &other, image.Options{})
	if err != nil {
		return err
	}
	return p.Close()
}

func (b *bench) mount() error {
	p, err := b.cache.Find(image.IDOf(b.img))
	if err != nil {
		return err
	}
	m, err := p.Tree()
	if err != nil {
		return err
	}
	return errors.Join(m.Close(), p.Close())
}

func (b *bench) file() error {
	return image.WriteFile(context.Background(), b.blobs, b.img, b.dir+"/image.erofs", false, image.Options{})
}

// blobs are those of a layout.
type blobs struct{ *layout.Dir }

func (b blobs) Blob(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	return os.Open(b.BlobPath(d.Digest))
}

// image reads the one image of the layout, or the first manifest of its index.
func (b blobs) image() (*store.Image, error) {
	d, err := b.Root()
	if err != nil {
		return nil, err
	}
	var index ocispec.Index
	if err := b.ReadJSON(d, &index); err != nil {
		return nil, err
	}
	if len(index.Manifests) > 0 {
		d = index.Manifests[0]
	}
	manifest, err := os.ReadFile(b.BlobPath(d.Digest))
	if err != nil {
		return nil, err
	}
	m, err := store.ParseManifest(d, manifest)
	if err != nil {
		return nil, err
	}
	config, err := os.ReadFile(b.BlobPath(m.Config.Digest))
	if err != nil {
		return nil, err
	}
	return store.NewImage(d, manifest, config)
}
