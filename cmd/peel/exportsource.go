package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"peel/pkg/bundle"
	"peel/pkg/commit"
	"peel/pkg/erofs"
	"peel/pkg/export"
	"peel/pkg/image"
	"peel/pkg/progress"
	"peel/pkg/registry"
	"peel/pkg/run"
	"peel/pkg/store"
)

// exportSource is what is to be exported: a directory, a bundle, a container or an
// image.
type exportSource struct {
	// write writes it as an archive of the kind that o asks for.
	write func(ctx context.Context, w io.Writer, o export.Options) error
	// spec is the runtime config that goes with it, if any does.
	spec func() (*specs.Spec, error)
	// made is the manifest of the image that a container's changes lie on top of.
	made digest.Digest
	// image is set for an image.
	image *store.Image
	st    *store.Store
	root  *os.File
}

func (s *exportSource) close() {
	if s.root != nil {
		s.root.Close()
	}
	if s.st != nil {
		s.st.Close()
	}
}

// unknownSourceError is a name that nothing has that could be exported.
type unknownSourceError string

func (e unknownSourceError) Error() string {
	return fmt.Sprintf("no container, image or bundle is called %q", string(e))
}

// notBundleError names a directory that was to be a bundle.
type notBundleError string

func (e notBundleError) Error() string { return string(e) + " is no bundle: it has no config.json" }

// exportSource finds what a name stands for. What begins with "." or "/" is a
// directory; else a bundle's comes before a container's, and that before an
// image's.
func (a *app) exportSource(name string, bare bool) (*exportSource, error) {
	root, err := openRootfs(name, bare)
	var noBundle notBundleError
	switch {
	case err == nil && bare:
		return treeSource(root)
	case err == nil:
		return bundleSource(name, root)
	case bare, strings.HasPrefix(name, "."), strings.HasPrefix(name, "/"), !errors.Is(err, os.ErrNotExist) && !errors.As(err, &noBundle):
		return nil, err
	}
	s, found := a.containerSource(name)
	if errors.Is(found, run.ErrNotFound) {
		s, found = a.imageSource(name)
	}
	var reference *registry.ReferenceError
	if !errors.As(found, &reference) && !errors.Is(found, store.ErrNotFound) {
		return s, found
	}
	if noBundle != "" {
		return nil, noBundle
	}
	return nil, unknownSourceError(name)
}

// treeSource takes over root. A tree of a user's own making is seen as by a container
// of his: its root is he.
func treeSource(root *os.File) (*exportSource, error) {
	info, err := root.Stat()
	if err != nil {
		root.Close()
		return nil, err
	}
	tree := export.Tree
	if uid := os.Geteuid(); uid != 0 && int(info.Sys().(*syscall.Stat_t).Uid) == uid {
		tree = run.ExportOwn
	}
	return &exportSource{root: root, write: func(ctx context.Context, w io.Writer, o export.Options) error { return tree(ctx, root, w, o) }}, nil
}

// bundleSource takes over root.
func bundleSource(dir string, root *os.File) (*exportSource, error) {
	s, err := treeSource(root)
	if err != nil {
		return nil, err
	}
	s.spec = func() (*specs.Spec, error) {
		f, err := os.Open(filepath.Join(dir, "config.json"))
		if err != nil {
			return nil, err
		}
		defer f.Close()
		spec := &specs.Spec{}
		if err := json.NewDecoder(io.LimitReader(f, maxConfig)).Decode(spec); err != nil {
			return nil, fmt.Errorf("bundle %s: config.json: %w", dir, err)
		}
		return spec, nil
	}
	return s, nil
}

func (a *app) containerSource(name string) (*exportSource, error) {
	c, err := a.container(name)
	if err != nil {
		return nil, err
	}
	s := &exportSource{write: c.Export, spec: c.Spec}
	if c.Root.Image != nil {
		s.made = c.Root.Image.Manifest
	}
	if c.Root.Mounts() {
		s.write = func(ctx context.Context, w io.Writer, o export.Options) error { return a.exportOverlay(ctx, c, w, o) }
	}
	return s, nil
}

// exportOverlay exports a container of a prepared image. The kernel, who would have to
// mount it, is not asked: what the container has not changed is read from the
// layers' tars, which is several times as fast.
func (a *app) exportOverlay(ctx context.Context, c *run.Container, w io.Writer, o export.Options) error {
	if o.Kind == export.Changes || o.Mounts {
		return c.Export(ctx, w, o)
	}
	cache, err := a.openCache()
	if err != nil {
		return err
	}
	upper, err := c.OpenChanges()
	if err != nil {
		return err
	}
	defer upper.Close()
	err = cache.RestoreInMemory(ctx, image.ID(*c.Root.Image), func(root *erofs.Inode, devices []erofs.Device) error {
		return export.Overlay(ctx, upper, root, devices, w, o)
	})
	if errors.Is(err, image.ErrNotFound) {
		err = fmt.Errorf("image %s: %w", c.Root.Image.Manifest, err)
	}
	return err
}

func (a *app) imageSource(name string) (*exportSource, error) {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return nil, err
	}
	st, err := a.openStore()
	if err != nil {
		return nil, err
	}
	s := &exportSource{st: st}
	if s.image, err = st.Resolve(ref.String()); err == nil {
		err = a.readable(st, s.image)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	s.write = func(ctx context.Context, w io.Writer, o export.Options) error {
		cache, err := a.openCache()
		if err != nil {
			return err
		}
		return cache.InMemory(ctx, st, s.image, image.Options{Progress: warningsOnly(o.Progress)}, func(root *erofs.Inode, devices []erofs.Device) error {
			return export.InMemory(ctx, root, devices, w, o)
		})
	}
	return s, nil
}

// warningsOnly leaves out that layers were made ready: nobody waits for these.
func warningsOnly(f progress.Func) progress.Func {
	return func(e progress.Event) {
		if e.Kind == progress.Warning {
			f.Send(e)
		}
	}
}

// lostLayersError is an image of which the store has not all layers.
type lostLayersError struct{ name string }

func (e lostLayersError) Error() string {
	return fmt.Sprintf("the store has not all layers of image %s", e.name)
}

// readable tells whether an image can be read, from its blobs or as it was prepared.
func (a *app) readable(st *store.Store, img *store.Image) error {
	tars, err := a.openTars()
	if err != nil {
		return err
	}
	defer tars.Close()
	if !haveLayers(st, tars, img) {
		return lostLayersError{img.Name}
	}
	return nil
}

// whole tells whether an image has all of its blobs.
func whole(st *store.Store, img *store.Image) error {
	if len(missing(st, img)) > 0 {
		return lostLayersError{img.Name}
	}
	return nil
}

// base is what a new layer of the source goes on: the image that it was made of, if
// the store has all of it. Otherwise there is only a config.
func (s *exportSource) base(st *store.Store) (commit.Base, error) {
	if s.made != "" {
		if b, err := baseImage(st, s.made); !errors.Is(err, store.ErrNotFound) {
			return b, err
		}
	}
	config := ocispec.Image{Platform: ocispec.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH}}
	if s.spec != nil {
		spec, err := s.spec()
		if err != nil {
			return commit.Base{}, err
		}
		config = bundle.Config(spec, config.Platform)
	}
	b, err := json.Marshal(config)
	return commit.Base{Config: b}, err
}

// baseImage finds an image by its manifest's digest, which no name may have any more.
func baseImage(st *store.Store, manifest digest.Digest) (commit.Base, error) {
	var b commit.Base
	info, err := os.Lstat(filepath.Join(st.Layout(), "blobs", manifest.Algorithm().String(), manifest.Encoded()))
	if errors.Is(err, os.ErrNotExist) {
		return b, store.ErrNotFound
	}
	if err != nil {
		return b, err
	}
	d := ocispec.Descriptor{Digest: manifest, Size: info.Size()}
	bytes, err := st.ReadBlob(d)
	if err != nil {
		return b, err
	}
	m, err := store.ParseManifest(d, bytes)
	if err != nil {
		return b, err
	}
	if b.Config, err = st.ReadBlob(m.Config); err != nil {
		return b, err
	}
	img, err := store.NewImage(d, bytes, b.Config)
	if err != nil {
		return b, err
	}
	if len(missing(st, img)) > 0 {
		return b, store.ErrNotFound
	}
	b.Layers = m.Layers
	return b, nil
}

// openRootfs opens the root file system that dir is, or holds as a bundle: then
// it is the directory called rootfs. What config.json says is not asked, for it
// may be a file of an image's that calls itself a bundle.
func openRootfs(dir string, bare bool) (*os.File, error) {
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC
	if bare {
		return os.OpenFile(dir, flags, 0)
	}
	if _, err := os.Lstat(filepath.Join(dir, "config.json")); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			if _, dirErr := os.Stat(dir); dirErr == nil {
				return nil, notBundleError(dir)
			}
		}
		return nil, err
	}
	return os.OpenFile(filepath.Join(dir, "rootfs"), flags|unix.O_NOFOLLOW, 0)
}
