package images

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/e2e/layout"
)

// huge is a developer's image of everything: three gigabytes in eight layers.
var huge = bulk{groups: []string{
	"openjdk-17-jre-headless openjdk-17-jdk-headless",
	"golang-1.19-src golang-1.19-go",
	"libllvm14 llvm-14-dev libclang-cpp14 libllvm15 llvm-15-dev libclang-cpp15",
	"rustc rust-src libstd-rust-dev libboost1.74-dev",
	"python3-numpy python3-scipy python3-pandas python3-matplotlib python3-django",
	"chromium firefox-esr",
	"libreoffice-core mediawiki wordpress",
}}

// many is an application with the sources of what it depends on: ninety
// thousand files, nearly all of them small.
var many = bulk{groups: []string{
	"golang-1.19-src",
	"rust-src",
	"mediawiki wordpress",
	"python3-django libjs-mathjax",
}}

// single is two gigabytes, most of them large shared objects, in one layer.
var single = bulk{flat: true, groups: []string{
	"chromium firefox-esr libreoffice-core openjdk-17-jre-headless libtorch1.13 libqt5webenginecore5",
	"libllvm14 libclang-cpp14 libllvm15 llvm-15-dev libclang-cpp15 libwebkit2gtk-4.0-37 libboost1.74-dev libstd-rust-dev",
}}

// bulk is an image of Debian packages over the base tree. They are unpacked,
// not installed, which takes a fraction of the time and makes the same files.
type bulk struct {
	groups []string            // names of packages; each group is a layer
	flat   bool                // all of it, the base too, is one layer
	more   func(*rootfs) error // what follows the packages; may be nil
}

func (b bulk) image(ctx context.Context, c *Cache, dst *layout.Dir) (_ ocispec.Descriptor, err error) {
	r, discard, err := newRootfs(ctx, c, dst)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer func() { err = errors.Join(err, discard()) }()
	commit := func(what string) error { return r.commit(what, layerOptions{}) }
	if !b.flat {
		if err := commit(baseStep); err != nil {
			return ocispec.Descriptor{}, err
		}
	}
	debs := dst.Path + ".debs" // outside the tree, so that no layer holds them
	defer func() { err = errors.Join(err, os.RemoveAll(debs)) }()
	packages := strings.Join(b.groups, " ")
	err = r.chroot(ctx, "apt-get update -q; mkdir /debs; cd /debs; apt-get download -q "+packages+"; rm -rf /var/lib/apt/lists/*")
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if err := r.sh(ctx, fmt.Sprintf("rm -rf %[1]s; mv debs %[1]s", debs)); err != nil {
		return ocispec.Descriptor{}, err
	}
	for _, group := range b.groups {
		err := r.sh(ctx, fmt.Sprintf(`
			for p in %s; do
				dpkg-deb --fsys-tarfile %s/"$p"_*.deb | tar -x --keep-directory-symlink
			done`, group, debs))
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		if b.flat {
			continue
		}
		if err := commit("unpack " + group); err != nil {
			return ocispec.Descriptor{}, err
		}
	}
	if b.flat {
		if err := commit("unpack " + packages); err != nil {
			return ocispec.Descriptor{}, err
		}
	}
	if b.more != nil {
		if err := b.more(r); err != nil {
			return ocispec.Descriptor{}, err
		}
	}
	return r.image(ocispec.ImageConfig{
		Cmd: []string{"bash"},
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/go-1.19/bin"},
	})
}
