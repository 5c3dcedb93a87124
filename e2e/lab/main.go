// Lab makes the images of the end-to-end tests and serves them.
//
//	lab images [NAME ...]   make the images (all of them, if none is named) and print NAME and layout
//	lab serve [NAME ...]    the same, and serve them from a registry on a free loopback port until
//	                        interrupted; prints one reference a line, then "ready"
//	lab prune               remove images that older recipes made
//
// PEEL_E2E_CACHE names the directory where images are kept (default
// /var/cache/peel-e2e), PEEL_E2E_MIRROR the Debian mirror they are made from.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"peel/e2e/images"
	"peel/e2e/registry"
)

const usage = `usage:
  lab images [NAME ...]   make images, print where their layouts lie
  lab serve [NAME ...]    make images and serve them on loopback until interrupted
  lab prune               remove images that older recipes made
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	cache := images.FromEnv()
	cache.Log = os.Stderr
	names := args[1:]
	if len(names) == 0 {
		names = images.Names()
	}
	switch args[0] {
	case "images":
		for _, name := range names {
			l, err := cache.Image(ctx, name)
			if err != nil {
				return err
			}
			fmt.Println(name, l.Path)
		}
		return nil
	case "serve":
		return serve(ctx, cache, names)
	case "prune":
		return cache.Prune()
	}
	fmt.Fprint(os.Stderr, usage)
	os.Exit(2)
	return nil
}

func serve(ctx context.Context, cache *images.Cache, names []string) (err error) {
	dir, err := os.MkdirTemp("", "peel-registry-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	r, err := registry.Start(ctx, dir, registry.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Stop()) }()
	for _, name := range names {
		l, err := cache.Image(ctx, name)
		if err != nil {
			return err
		}
		repo, tag := images.Place(name)
		if _, err := r.Push(ctx, l, repo, tag); err != nil {
			return err
		}
		fmt.Printf("%s/%s:%s\n", r.Addr, repo, tag)
	}
	fmt.Println("ready")
	<-ctx.Done()
	return nil
}
