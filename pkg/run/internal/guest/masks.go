package guest

import (
	"golang.org/x/sys/unix"

	"peel/pkg/run/internal/mountfd"
	"peel/pkg/run/internal/proto"
)

// absent are the ways a path to be masked or protected is not there.
func absent(err error) bool { return err == unix.ENOENT || err == unix.ENOTDIR }

// maskPaths hides files behind /dev/null and directories behind an empty,
// read-only tmpfs.
func (g *guest) maskPaths() error {
	for _, p := range g.Spec.Linux.MaskedPaths {
		if err := g.mask(p); err != nil {
			return proto.Fail("mask", p, err)
		}
	}
	return nil
}

func (g *guest) mask(p string) error {
	target, err := g.root.open(p, unix.O_PATH)
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(target)
	var st unix.Stat_t
	if err := unix.Fstat(target, &st); err != nil {
		return err
	}
	var cover int
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		attr := unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
		cover, err = mountfd.NewFS("tmpfs", "tmpfs", []string{"size=0", "nr_inodes=1", "mode=755"}, attr)
	} else {
		cover, err = hostDevice("/dev/null", unix.S_IFCHR, unix.Mkdev(1, 3))
		if err == nil {
			err = mountfd.SetAttr(cover, unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC}, false)
		}
	}
	if err != nil {
		return err
	}
	defer unix.Close(cover)
	return mountfd.Attach(cover, target)
}

// protectPaths write-protects paths by mounting them on themselves.
func (g *guest) protectPaths() error {
	for _, p := range g.Spec.Linux.ReadonlyPaths {
		if err := g.protect(p); err != nil {
			return proto.Fail("write-protect", p, err)
		}
	}
	return nil
}

func (g *guest) protect(p string) error {
	target, err := g.root.open(p, unix.O_PATH)
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(target)
	tree, err := mountfd.CloneTree(target, "", true)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	if err := mountfd.SetAttr(tree, unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY, Propagation: unix.MS_PRIVATE}, true); err != nil {
		return err
	}
	return mountfd.Attach(tree, target)
}
