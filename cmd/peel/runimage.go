package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"

	"peel/pkg/bundle"
	"peel/pkg/image"
	"peel/pkg/progress"
	"peel/pkg/run"
	"peel/pkg/store"
	"peel/pkg/unpack"
)

// In which form a container gets the files of its image.
const (
	formAuto  = "auto"
	formImage = "image" // prepared once, mounted for each container under its changes
	formFiles = "files" // unpacked once, and laid under each container's changes
)

// createFromImage makes a container of an image, which is pulled if need be.
func (a *app) createFromImage(ctx context.Context, rt *run.Runtime, name string, command []string, f runFlags) (*run.Container, error) {
	if f.form != formAuto && f.form != formImage && f.form != formFiles {
		return nil, usageError{nil, fmt.Errorf("--store-form %q: want auto, image or files", f.form)}
	}
	req := imageRequest{name: name, when: f.when, quiet: true}
	o := f.create
	o.Image, o.User = name, "" // who the user is, imageSpec finds out
	o.Files = networkFiles(f)
	if f.form != formFiles {
		c, err := a.createMounted(ctx, rt, req, command, f, o)
		var unsupported *image.UnsupportedError
		if f.form == formImage || !errors.As(err, &unsupported) {
			return c, err
		}
	}
	c, err := a.createOverFiles(ctx, rt, req, command, f, o)
	if unsupported := (noOverlayError{}); !errors.As(err, &unsupported) {
		return c, err
	}
	// Each container has its own files then.
	o.Populate = func(ctx context.Context, dir string) (run.Populated, error) {
		return a.populate(ctx, dir, req, command, f)
	}
	return a.create(ctx, rt, run.Rootfs{}, nil, o, f.dryRun)
}

// createMounted makes a container whose image is going to be mounted;
// *image.UnsupportedError.
func (a *app) createMounted(ctx context.Context, rt *run.Runtime, req imageRequest, command []string, f runFlags, o run.CreateOptions) (*run.Container, error) {
	if err := image.Supported(); err != nil {
		return nil, err
	}
	img, prepared, err := a.prepare(ctx, req, f.pullFlags, f.limits.Limits)
	if err != nil {
		return nil, err
	}
	// Until the container is there, and says itself that it needs the image.
	defer prepared.Close()
	if o.Tree, err = rt.OpenTree(prepared); err != nil {
		return nil, err
	}
	defer o.Tree.Close()
	root, err := o.Tree.Dup()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return a.createOver(ctx, rt, img, root, nil, command, f, o)
}

// createOverFiles makes a container that has its changes over the files of its image,
// which are the same for all containers of it; noOverlayError.
func (a *app) createOverFiles(ctx context.Context, rt *run.Runtime, req imageRequest, command []string, f runFlags, o run.CreateOptions) (*run.Container, error) {
	img, files, err := a.unpackOnce(ctx, req, f)
	if err != nil {
		return nil, err
	}
	// Until the container is there, and says itself that it needs the image.
	defer files.Close()
	root, err := os.Open(files.Rootfs)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return a.createOver(ctx, rt, img, root, []string{files.Rootfs}, command, f, o)
}

// createOver makes a container that has its changes over an image, whose root is
// open. lower is the image's files; nil if it is going to be mounted.
func (a *app) createOver(ctx context.Context, rt *run.Runtime, img *store.Image, root *os.File, lower, command []string, f runFlags, o run.CreateOptions) (*run.Container, error) {
	spec, err := imageSpec(img, root, command, f)
	if err != nil {
		return nil, err
	}
	if o.StopSignal == "" {
		o.StopSignal = img.Config.Config.StopSignal
	}
	id := run.Image(image.IDOf(img))
	return a.create(ctx, rt, run.Rootfs{Image: &id, Lower: lower}, spec, o, f.dryRun)
}

// openCache opens the cache of prepared images, which is beside the store.
func (a *app) openCache() (*image.Cache, error) {
	root, err := a.storeRoot()
	if err != nil {
		return nil, err
	}
	return image.Open(root)
}

// findPrepared is what containers of prepared images are started with. The cache is
// beside them.
func findPrepared(root string, i run.Image) (run.Source, error) {
	cache, err := image.Open(root)
	if err != nil {
		return nil, err
	}
	return cache.Restore(context.Background(), image.ID(i))
}

// prepare makes an image ready to be mounted. The Prepared is the caller's to close.
func (a *app) prepare(ctx context.Context, req imageRequest, f pullFlags, limits unpack.Limits) (*store.Image, *image.Prepared, error) {
	cache, err := a.openCache()
	if err != nil {
		return nil, nil, err
	}
	var ready *image.Prepared
	var of *store.Image
	err = a.useImage(ctx, req, f, func(ctx context.Context, blobs unpack.Blobs, img *store.Image, report progress.Func) (err error) {
		of = img
		if ready, err = cache.Find(image.IDOf(img)); !errors.Is(err, image.ErrNotFound) {
			return err
		}
		if err = cache.Check(); err == nil {
			ready, err = cache.Prepare(ctx, blobs, img, image.Options{Jobs: f.jobs, Limits: limits, Progress: report})
		}
		return err
	})
	if err != nil && ready != nil {
		err = errors.Join(err, ready.Close())
	}
	return of, ready, err
}

// populate unpacks an image into a directory of a container's own.
func (a *app) populate(ctx context.Context, dir string, req imageRequest, command []string, f runFlags) (run.Populated, error) {
	tree := run.Populated{Rootfs: "rootfs"}
	rootfs := filepath.Join(dir, tree.Rootfs)
	err := a.unpack(ctx, unpackRequest{
		imageRequest: req, dir: rootfs, opts: unpack.Options{Form: unpack.Rootfs, Limits: f.limits.Limits},
		done: func(img *store.Image) error {
			root, err := os.Open(rootfs)
			if err != nil {
				return err
			}
			defer root.Close()
			tree.StopSignal = img.Config.Config.StopSignal
			tree.Spec, err = imageSpec(img, root, command, f)
			return err
		},
	}, f.pullFlags)
	return tree, err
}

// imageSpec makes the config of a container from that of its image, whose root
// file system root is.
func imageSpec(img *store.Image, root *os.File, command []string, f runFlags) (*specs.Spec, error) {
	bo := bundle.Options{Wishes: f.wishes, User: f.create.User}
	if f.entrypoint != "" {
		bo.Entrypoint = []string{f.entrypoint}
	}
	if os.Geteuid() != 0 {
		bo.Unprivileged = true
		bo.UIDMappings, bo.GIDMappings = run.UserMaps()
	} else if bo.Wishes.AppArmor == "" {
		bo.Wishes.AppArmor = run.DefaultAppArmorProfile()
	}
	made, err := bundle.Spec(img.Config, root, bo)
	if err != nil {
		return nil, asMistake(err)
	}
	bundle.PlaceVolumes(made, img.Config.Config)
	if f.tty {
		made.Process.ConsoleSize = run.TerminalSize(os.Stdout)
	}
	return made, nil
}
