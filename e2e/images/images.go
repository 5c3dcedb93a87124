// Package images makes the real container images of the end-to-end tests and
// benchmarks, from nothing but Debian's packages and the Go toolchain.
//
// Each image has a recipe: a debootstrap, commands run in its chroot, packages
// unpacked over it. What a step changed becomes one layer, as a builder of
// images would write it. Images are kept in a cache directory as OCI layouts,
// under a key that is the hash of the recipes, and each appears there by a
// rename, complete: a build that is killed leaves nothing that a later one
// would take for an image.
package images

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"peel/e2e/layout"
	"peel/e2e/tars"
)

//go:embed *.go
var sources embed.FS

// Cache is a directory of finished images. Its zero value is not useful: use
// FromEnv, or name a Dir.
type Cache struct {
	Dir    string
	Mirror string    // where the packages come from; debootstrap's own choice, if empty
	Log    io.Writer // a line when an image is begun and when it is done; nil is silent
}

// FromEnv reads PEEL_E2E_CACHE (default /var/cache/peel-e2e) and PEEL_E2E_MIRROR.
func FromEnv() *Cache {
	dir := os.Getenv("PEEL_E2E_CACHE")
	if dir == "" {
		dir = "/var/cache/peel-e2e"
	}
	return &Cache{Dir: dir, Mirror: os.Getenv("PEEL_E2E_MIRROR")}
}

// A recipe fills an empty layout and returns the descriptor of its image.
type recipe func(ctx context.Context, c *Cache, dst *layout.Dir) (ocispec.Descriptor, error)

func recipes() map[string]recipe {
	return map[string]recipe{
		"nginx":        index(published("nginx-plain", layout.Gzip)),
		"nginx-docker": published("nginx-plain", layout.Docker),
		"nginx-plain":  nginx,
		"nginx-zstd":   published("nginx-plain", layout.Zstd),
		"big":          published("big-plain", layout.Gzip),
		"big-plain":    big.image,
		"huge":         published("huge-plain", layout.Gzip),
		"huge-plain":   huge.image,
		"many":         published("many-plain", layout.Gzip),
		"many-plain":   many.image,
		"single":       published("single-plain", layout.Gzip),
		"single-plain": single.image,
		"multi":        multi,
		"odd":          odd,
		"odd-rare":     rare,
	}
}

// Names lists the images that there are recipes for.
func Names() []string { return slices.Sorted(maps.Keys(recipes())) }

// Place is where a registry has the named image: nginx is library/nginx:latest,
// nginx-zstd is library/nginx:zstd, any other NAME e2e/NAME:latest.
func Place(name string) (repo, tag string) {
	switch variant, ok := strings.CutPrefix(name, "nginx-"); {
	case name == "nginx":
		return "library/nginx", "latest"
	case ok:
		return "library/nginx", variant
	}
	return "e2e/" + name, "latest"
}

// Image returns the layout of the named image, making it first unless the
// cache has it. Making nginx and big takes root.
func (c *Cache) Image(ctx context.Context, name string) (*layout.Dir, error) {
	r, known := recipes()[name]
	if !known {
		return nil, fmt.Errorf("no image %q; there are %s", name, strings.Join(Names(), ", "))
	}
	path, err := c.keep(ctx, name, func(tmp string) error {
		dst, err := layout.Create(tmp)
		if err != nil {
			return err
		}
		desc, err := r(ctx, c, dst)
		if err != nil {
			return err
		}
		return dst.SetRoot(desc)
	})
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", name, err)
	}
	return layout.Open(path)
}

// keep returns the path of the cache's directory called name. If it is not
// there, fill makes it under a temporary name. One process fills a name at a
// time; the others wait for it.
func (c *Cache) keep(ctx context.Context, name string, fill func(tmp string) error) (string, error) {
	home := filepath.Join(c.Dir, c.key())
	path := filepath.Join(home, name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(home, 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(filepath.Join(home, "."+name+".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil // another process was faster
	}
	tmp := filepath.Join(home, "."+name+".tmp")
	if err := os.RemoveAll(tmp); err != nil { // left by a process that was killed
		return "", err
	}
	start := time.Now()
	c.logf("%s: making it in %s", name, home)
	if err := fill(tmp); err != nil {
		return "", errors.Join(err, os.RemoveAll(tmp))
	}
	if err := ctx.Err(); err != nil {
		return "", errors.Join(err, os.RemoveAll(tmp))
	}
	c.logf("%s: made in %.1f s", name, time.Since(start).Seconds())
	return path, os.Rename(tmp, path)
}

// Prune removes what recipes of the past left in the cache.
func (c *Cache) Prune() error {
	entries, err := os.ReadDir(c.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() && e.Name() != c.key() {
			err = errors.Join(err, os.RemoveAll(filepath.Join(c.Dir, e.Name())))
		}
	}
	return err
}

// key names all that decides what the images hold: the source that makes them,
// where the packages come from, and the machine's architecture.
func (c *Cache) key() string {
	h := sha256.New()
	for _, fs := range []embed.FS{sources, layout.Sources, tars.Sources} {
		files, _ := fs.ReadDir(".") // an embedded directory is always there
		for _, f := range files {
			if !strings.HasSuffix(f.Name(), "_test.go") {
				b, _ := fs.ReadFile(f.Name())
				fmt.Fprintf(h, "%s %d\n%s", f.Name(), len(b), b)
			}
		}
	}
	fmt.Fprintln(h, c.Mirror, runtime.GOARCH)
	return hex.EncodeToString(h.Sum(nil))[:16]
}

func (c *Cache) logf(format string, args ...any) {
	if c.Log != nil {
		fmt.Fprintf(c.Log, format+"\n", args...)
	}
}

// published is the recipe of an image that has the content of another.
func published(plain string, style layout.Style) recipe {
	return func(ctx context.Context, c *Cache, dst *layout.Dir) (ocispec.Descriptor, error) {
		src, err := c.Image(ctx, plain)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		return layout.Publish(dst, src, style)
	}
}
