package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"peel/internal/userns"
	"peel/pkg/image"
	"peel/pkg/progress"
	"peel/pkg/registry"
	"peel/pkg/run"
	"peel/pkg/store"
	"peel/pkg/unpack"
)

// noOverlayError: the kernel lays nothing over files that are there.
type noOverlayError struct{ error }

func (e noOverlayError) Unwrap() error { return e.error }

// unpackOnce unpacks an image for all its containers, if that has not been done. The
// Unpacked is the caller's to close. noOverlayError.
func (a *app) unpackOnce(ctx context.Context, req imageRequest, f runFlags) (img *store.Image, files *image.Unpacked, err error) {
	cache, err := a.openCache()
	if err != nil {
		return nil, nil, err
	}
	ids := a.subordinate()
	if ids != nil {
		req.last = progress.Downloaded // the other process, which unpacks, is silent
	}
	get := func(ctx context.Context, make func(dir string) error) (err error) {
		files, err = cache.Unpacked(ctx, image.IDOf(img), ownersKey(ids), func(dir string) error {
			if err := run.TryOverlay(filepath.Dir(dir)); err != nil {
				return noOverlayError{err}
			}
			return make(dir)
		})
		return err
	}
	err = a.useImage(ctx, req, f.pullFlags, func(ctx context.Context, blobs unpack.Blobs, used *store.Image, report progress.Func) error {
		img = used
		if ids != nil {
			return nil // another process unpacks it, from the store
		}
		return get(ctx, func(dir string) error {
			unix.Umask(0) // see unpack
			// It is going to be used for long, and nothing would tell that a
			// power failure has left it incomplete.
			o := unpack.Options{Form: unpack.Bundle, Jobs: f.jobs, Limits: f.limits.Limits, Sync: true, Progress: report}
			_, err := unpack.Image(ctx, blobs, used, dir, o)
			return err
		})
	})
	if err != nil || ids == nil {
		return img, files, err
	}
	err = get(ctx, func(dir string) error {
		args, err := a.unpackArgs(req.name, img, dir, f)
		if err != nil {
			return err
		}
		return a.runMapped(ctx, *ids, args)
	})
	return img, files, err
}

// unpackArgs is the command line that unpacks just this image.
func (a *app) unpackArgs(name string, img *store.Image, dir string, f runFlags) ([]string, error) {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return nil, err
	}
	root, err := a.storeRoot()
	if err != nil {
		return nil, err
	}
	args := []string{"unpack", "--root", root, "--quiet", "--sync", "--jobs", strconv.Itoa(f.jobs)}
	if f.platform != "" {
		args = append(args, "--platform", f.platform)
	}
	if f.insecure {
		args = append(args, "--insecure")
	}
	for _, l := range f.limits.said {
		args = append(args, "--limit", l)
	}
	return append(args, "--", ref.Name()+"@"+img.Descriptor.Digest.String(), dir), nil
}

// ownersKey tells apart the ids that the files of an image are made with.
func ownersKey(ids *userns.Maps) string {
	if ids == nil {
		if os.Geteuid() == 0 {
			return ""
		}
		return "user"
	}
	sum := sha256.Sum256(fmt.Append(nil, ids.UIDs, ids.GIDs))
	return hex.EncodeToString(sum[:8])
}
