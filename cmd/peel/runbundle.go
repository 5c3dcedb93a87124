package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"

	"peel/pkg/bundle"
	"peel/pkg/run"
)

// maxConfig bounds a config.json; real ones are some ten KiB.
const maxConfig = 16 << 20

// createFromBundle takes the config as it is, and over it what was typed.
func (a *app) createFromBundle(ctx context.Context, rt *run.Runtime, dir string, f runFlags) (*run.Container, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(filepath.Join(dir, "config.json"))
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	defer file.Close()
	var spec specs.Spec
	if err := json.NewDecoder(io.LimitReader(file, maxConfig)).Decode(&spec); err != nil {
		return nil, fmt.Errorf("bundle %s: config.json: %w", dir, err)
	}
	if spec.Root == nil || spec.Process == nil || spec.Linux == nil {
		return nil, fmt.Errorf("bundle %s: config.json has no root, process or linux", dir)
	}
	rootfs := spec.Root.Path
	if !filepath.IsAbs(rootfs) {
		rootfs = filepath.Join(dir, rootfs)
	}
	for i := range spec.Mounts {
		// runtime-spec config.md, Mounts: a relative source is the bundle's.
		m := &spec.Mounts[i]
		if bound(*m) && m.Source != "" && !filepath.IsAbs(m.Source) {
			m.Source = filepath.Join(dir, m.Source)
		}
	}
	if f.entrypoint != "" {
		f.wishes.Args = append([]string{f.entrypoint}, f.wishes.Args...)
	}
	if f.create.User != "" {
		// Another user's home; his own is found out with his ids.
		f.wishes.Env = append([]string{"HOME"}, f.wishes.Env...)
	}
	if err := f.wishes.Apply(&spec); err != nil {
		return nil, asMistake(err)
	}
	if f.tty {
		spec.Process.ConsoleSize = run.TerminalSize(os.Stdout)
	}
	f.create.Image, f.create.Bundle = dir, dir
	return a.create(ctx, rt, run.Rootfs{Dir: rootfs}, &spec, f.create, f.dryRun)
}

// asMistake marks a wish that cannot be meant as the caller's mistake.
func asMistake(err error) error {
	if wish := (*bundle.WishError)(nil); errors.As(err, &wish) {
		return usageError{nil, err}
	}
	return err
}

func bound(m specs.Mount) bool {
	if m.Type == "bind" {
		return true
	}
	for _, o := range m.Options {
		if o == "bind" || o == "rbind" {
			return true
		}
	}
	return false
}
