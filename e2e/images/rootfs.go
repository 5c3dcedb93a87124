package images

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/e2e/layout"
)

// rootfs is a tree under change. Each commit turns what has changed since the
// last one into a layer.
type rootfs struct {
	dir    string
	dst    *layout.Dir
	last   snapshot
	layers []ocispec.Descriptor
	config ocispec.Image
}

// commit makes a layer of what has changed, described in the image's history by what.
func (r *rootfs) commit(what string, o layerOptions) error {
	now, err := take(r.dir)
	if err != nil {
		return err
	}
	changes := diff(r.last, now)
	r.last = now
	desc, err := r.dst.Add(ocispec.MediaTypeImageLayer, func(w io.Writer) error {
		return writeLayer(w, r.dir, changes, o)
	})
	if err != nil {
		return fmt.Errorf("layer %q: %w", what, err)
	}
	created := time.Now().UTC().Truncate(time.Second)
	r.layers = append(r.layers, desc)
	r.config.History = append(r.config.History, ocispec.History{Created: &created, CreatedBy: what})
	r.config.RootFS.DiffIDs = append(r.config.RootFS.DiffIDs, desc.Digest) // a plain tar's digest is its DiffID
	return nil
}

// image joins the layers and the config.
func (r *rootfs) image(c ocispec.ImageConfig) (ocispec.Descriptor, error) {
	created := time.Now().UTC().Truncate(time.Second)
	r.config.Created, r.config.Config = &created, c
	r.config.OS, r.config.Architecture = "linux", runtime.GOARCH
	r.config.RootFS.Type = "layers"
	return r.dst.AddImage(r.config, r.layers)
}

// sh runs a script on the host, in the tree's root directory.
func (r *rootfs) sh(ctx context.Context, script string) error {
	return r.run(ctx, "sh", "-euc", script)
}

// chroot runs a script inside the tree, to which /proc, /dev and the resolver's
// file are lent meanwhile.
func (r *rootfs) chroot(ctx context.Context, script string) error {
	const outer = `
		mount -t proc proc proc
		mount --rbind /dev dev
		touch etc/resolv.conf
		mount --bind /etc/resolv.conf etc/resolv.conf
		exec chroot . sh -euc "$1"`
	return apart(ctx, r.dir, "sh", "-euc", outer, "sh", script)
}

// write puts a file into the tree.
func (r *rootfs) write(name string, mode os.FileMode, content string) error {
	path := filepath.Join(r.dir, name)
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		return err
	}
	return os.Chmod(path, mode) // the umask has no say in an image
}

func (r *rootfs) run(ctx context.Context, name string, args ...string) error {
	return run(ctx, r.dir, name, args...)
}

// apart runs a command in mount and process namespaces of its own: what it
// mounts and what it starts ends with it, however it ends. Without that, a
// debootstrap that is killed would leave the host's /proc mounted in a tree
// that is removed next.
func apart(ctx context.Context, dir, name string, args ...string) error {
	return run(ctx, dir, "unshare", append([]string{"--mount", "--pid", "--fork", "--kill-child", name}, args...)...)
}

// run runs a command; where it fails, the last lines of its output are part of
// the error. The command gets a fixed environment, so that an image does not
// depend on who builds it, and the proxies, without which it may reach nothing.
func run(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "HOME=/root", "DEBIAN_FRONTEND=noninteractive"}
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasSuffix(strings.ToLower(name), "_proxy") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output

	// The death signal is tied to the thread that starts the command.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return fmt.Errorf("%w: run e2e/setup.sh", err)
		}
		lines := strings.Split(strings.TrimSpace(output.String()), "\n")
		return fmt.Errorf("%s: %w: %s", name, err, strings.Join(lines[max(0, len(lines)-5):], " | "))
	}
	return nil
}

// newRootfs starts an image from the base tree, of which nothing is committed
// yet. The returned function removes the tree.
func newRootfs(ctx context.Context, c *Cache, dst *layout.Dir) (*rootfs, func() error, error) {
	base, err := c.base(ctx)
	if err != nil {
		return nil, nil, err
	}
	dir := dst.Path + ".root" // beside the layout: the cache's file system holds what the recipe needs
	discard := func() error { return os.RemoveAll(dir) }
	if err := discard(); err != nil {
		return nil, nil, err
	}
	if err := run(ctx, "/", "cp", "-a", "--reflink=auto", base, dir); err != nil {
		return nil, nil, errors.Join(err, discard())
	}
	return &rootfs{dir: dir, dst: dst}, discard, nil
}
