package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"

	"golang.org/x/sys/unix"
)

// Kernel is a kernel that boots in a virtual machine.
type Kernel struct {
	// Package has its name and version.
	Package string
	Image   string
	// Modules are the files of those that tests need, each after those it needs.
	Modules []string
}

// The package that always stands for the latest kernel of the distribution.
const kernelPackage = "linux-image-cloud-amd64"

// wanted are modules in the order they need each other. What a kernel has built
// in, or not at all, is left out.
var wanted = []string{
	"virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_blk",
	"overlay", "libcrc32c", "netfs", "fscache", "erofs", "loop",
}

// ErrNoKernel says that the package cannot be had: the distribution has none, or
// there is no network.
var ErrNoKernel = errors.New("no package " + kernelPackage)

// FindKernel returns the distribution's present kernel, from dir where it has
// been there before, else by apt.
func FindKernel(ctx context.Context, dir string) (*Kernel, error) {
	name, version, err := latest(ctx)
	if err != nil {
		return nil, err
	}
	full := name + "_" + version
	home := filepath.Join(dir, full)
	if _, err := os.Stat(home); err != nil {
		if err := fetch(ctx, name+"="+version, home); err != nil {
			return nil, fmt.Errorf("%s: %w", full, err)
		}
	}
	images, err := filepath.Glob(filepath.Join(home, "boot/vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return nil, errors.Join(err, fmt.Errorf("%s: %d kernels", full, len(images)))
	}
	k := &Kernel{Package: full, Image: images[0]}
	for _, m := range wanted {
		found, err := filepath.Glob(filepath.Join(home, "modules", m+".ko*"))
		if err != nil {
			return nil, err
		}
		k.Modules = append(k.Modules, found...)
	}
	return k, nil
}

// latest asks apt which package kernelPackage stands for.
func latest(ctx context.Context) (name, version string, err error) {
	if _, err := exec.LookPath("apt-cache"); err != nil {
		return "", "", fmt.Errorf("%w: no apt-cache", ErrNoKernel)
	}
	out, err := exec.CommandContext(ctx, "apt-cache", "show", "--no-all-versions", kernelPackage).Output()
	if err != nil {
		return "", "", ErrNoKernel
	}
	found := regexp.MustCompile(`(?m)^Depends:.*\b(linux-image-[0-9][^ ,]*-cloud-amd64) \(= ([^ )]+)\)`).FindSubmatch(out)
	if found == nil {
		return "", "", fmt.Errorf("%w that depends on a kernel", ErrNoKernel)
	}
	return string(found[1]), string(found[2]), nil
}

// fetch downloads a package and keeps the kernel and the modules that are wanted.
func fetch(ctx context.Context, pkg, home string) error {
	if err := os.MkdirAll(filepath.Dir(home), 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(home+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	if _, err := os.Stat(home); err == nil {
		return nil // another process was faster
	}
	tmp := home + ".tmp"
	if err := os.RemoveAll(tmp); err != nil { // left by a process that was killed
		return err
	}
	defer os.RemoveAll(tmp)
	if err := os.MkdirAll(filepath.Join(tmp, "deb"), 0o755); err != nil {
		return err
	}
	get := exec.CommandContext(ctx, "apt-get", "download", "-q", pkg)
	get.Dir = filepath.Join(tmp, "deb")
	if out, err := get.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: apt-get download: %w: %s", ErrNoKernel, err, bytes.TrimSpace(out))
	}
	debs, err := filepath.Glob(filepath.Join(tmp, "deb", "*.deb"))
	if err != nil || len(debs) != 1 {
		return errors.Join(err, fmt.Errorf("apt-get download left %d packages", len(debs)))
	}
	all := filepath.Join(tmp, "all")
	if out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", debs[0], all).CombinedOutput(); err != nil {
		return fmt.Errorf("dpkg-deb: %w: %s", err, bytes.TrimSpace(out))
	}
	done := filepath.Join(tmp, "done")
	if err := keep(all, done); err != nil {
		return err
	}
	return os.Rename(done, home)
}

// keep moves of an unpacked package what is needed.
func keep(all, done string) error {
	for _, d := range []string{"boot", "modules"} {
		if err := os.MkdirAll(filepath.Join(done, d), 0o755); err != nil {
			return err
		}
	}
	return filepath.WalkDir(all, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		base := d.Name()
		if matched, _ := filepath.Match("vmlinuz-*", base); matched {
			return os.Rename(path, filepath.Join(done, "boot", base))
		}
		module := regexp.MustCompile(`^(.+)\.ko(\.xz)?$`).FindStringSubmatch(base)
		if module != nil && slices.Contains(wanted, module[1]) {
			return os.Rename(path, filepath.Join(done, "modules", base))
		}
		return nil
	})
}
