package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"peel/internal/rawfork"
	"peel/pkg/run/internal/mountfd"
	"peel/pkg/run/internal/proto"
)

// Image says which image a container is made of, in the words of its manifest and
// its config. What it takes to find it is the business of Options.FindImage.
type Image struct {
	Manifest digest.Digest   `json:"manifest"`
	DiffIDs  []digest.Digest `json:"diffIDs"`
}

// overlaid tells whether the container's changes are kept apart from what lies
// below.
func (r Rootfs) overlaid() bool { return len(r.Lower) > 0 || r.Image != nil }

// root is the container's root as the guest has to make it.
func (c *Container) root() proto.Root {
	r := proto.Root{Dir: c.Root.Dir, Lower: c.Root.Lower, Tree: c.Root.Mounts(), Volatile: c.AutoRemove}
	if c.Root.overlaid() {
		dir := c.rt.dataDir(c.ID)
		r.Upper, r.Work = filepath.Join(dir, "upper"), filepath.Join(dir, "work")
		if r.Tree {
			r.Lower = []string{filepath.Join(dir, "lower")}
		}
	}
	return r
}

// openTree opens the tree of the container's image, for the caller to close; nil
// where none is mounted. A tree can be attached once, so each start needs its own.
func (c *Container) openTree() (*Tree, error) {
	if !c.Root.Mounts() {
		return nil, nil
	}
	if tree := c.tree.Swap(nil); tree != nil {
		return tree, nil
	}
	return c.rt.open(*c.Root.Image)
}

func (rt *Runtime) open(i Image) (*Tree, error) {
	if rt.findImage == nil {
		return nil, fmt.Errorf("image %s: nobody to find it", i.Manifest)
	}
	src, err := rt.findImage(i)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", i.Manifest, err)
	}
	defer src.Close()
	tree, err := rt.OpenTree(src)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", i.Manifest, err)
	}
	return tree, nil
}

// treeOf returns a tree of the container's own; nil where none is mounted.
func (rt *Runtime) treeOf(root Rootfs, open *Tree) (*Tree, error) {
	switch {
	case !root.Mounts():
		return nil, nil
	case open == nil:
		return rt.open(*root.Image)
	}
	m, err := open.Again()
	if err != nil {
		return nil, err
	}
	return &Tree{m, open.key}, nil
}

// makeOverlay makes the directories of a container's overlay in dir. tree is its
// image's where that is mounted, else nil.
func makeOverlay(dir string, root Rootfs, tree *Tree) error {
	dirs := []string{"upper", "work"}
	if tree != nil {
		dirs = append(dirs, "lower")
	}
	for _, name := range dirs {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			return err
		}
	}
	upper := filepath.Join(dir, "upper")
	if tree != nil {
		return tree.Do(func(fd int) error { return copyAttributes(fd, upper) })
	}
	lower, err := os.Open(root.Lower[0])
	if err != nil {
		return err
	}
	defer lower.Close()
	return copyAttributes(int(lower.Fd()), upper)
}

// copyAttributes gives dir what the directory tree has: a directory that is in
// several layers of an overlay has the attributes of the topmost.
func copyAttributes(tree int, dir string) error {
	fail := func(err error) error { return &os.PathError{Op: "copy attributes of the root to", Path: dir, Err: err} }
	var st unix.Stat_t
	if err := unix.Fstat(tree, &st); err != nil {
		return fail(err)
	}
	// A user's own root directory is his. Its group, if it is another than root's, he
	// cannot give from out here.
	if err := unix.Lchown(dir, int(st.Uid), int(st.Gid)); err != nil && os.Geteuid() == 0 {
		return fail(err)
	}
	if err := unix.Chmod(dir, st.Mode&0o7777); err != nil {
		return fail(err)
	}
	if err := copyXattrs(fmt.Sprintf("/proc/self/fd/%d", tree), dir); err != nil {
		return fail(err)
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, dir, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fail(err)
	}
	return nil
}

// maxXattrs is the kernel's bound on a list of names, and on a value.
const maxXattrs = 64 << 10

func copyXattrs(from, to string) error {
	buf := make([]byte, maxXattrs)
	n, err := unix.Listxattr(from, buf)
	if errors.Is(err, unix.ENOTSUP) || n == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		// Who took these along would have the image steer the overlay.
		if strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.") {
			continue
		}
		if os.Geteuid() != 0 && !strings.HasPrefix(name, "user.") {
			continue // nor has the tree any that its maker, a user, could not set
		}
		n, err := unix.Getxattr(from, name, buf)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := unix.Setxattr(to, name, buf[:n], 0); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// stoppedRoot lays a container's changes over its layers, read-only, in a mount
// that is attached nowhere.
func (c *Container) stoppedRoot() (*os.File, error) { return c.overlayRoot(false) }

// overlayRoot makes the container's overlay in a mount that is attached nowhere. To
// write there needs the container's lock.
func (c *Container) overlayRoot(writable bool) (*os.File, error) {
	if os.Geteuid() != 0 {
		return nil, ErrNotRunning // a user has no mounts but in a namespace of his own
	}
	spec, err := c.Spec()
	if err != nil {
		return nil, err
	}
	_, ownUser := namespace(spec, specs.UserNamespace)
	tree, err := c.openTree()
	if err != nil {
		return nil, err
	}
	if tree != nil {
		defer tree.Close()
	}
	r := c.root()
	var root *os.File
	err = rawfork.OnSpentThread(func() error {
		if tree != nil {
			// overlayfs takes layers of its own mount namespace, which ends with
			// this thread; the overlay keeps what it needs of it.
			if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
				return os.NewSyscallError("unshare", err)
			}
			if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
				return &os.PathError{Op: "make private", Path: "/", Err: err}
			}
			if err := tree.Attach(r.Lower[0]); err != nil {
				return err
			}
		}
		o := mountfd.Overlay{Lower: append([]string{r.Upper}, r.Lower...), UserXattr: ownUser}
		if writable {
			o.Lower, o.Upper, o.Work, o.Volatile = r.Lower, r.Upper, r.Work, r.Volatile
		}
		fd, err := mountfd.NewOverlay(o)
		if err != nil {
			return &os.PathError{Op: "mount overlay", Path: r.Upper, Err: err}
		}
		root = os.NewFile(uintptr(fd), c.rt.dataDir(c.ID))
		return nil
	})
	return root, err
}
