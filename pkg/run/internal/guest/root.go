package guest

import (
	"path"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"peel/pkg/run/internal/mountfd"
	"peel/pkg/run/internal/proto"
)

// makeRoot attaches the root file system, privately, and opens it.
func (g *guest) makeRoot() error {
	// First of all nothing that follows may travel back to the host. Slave and
	// not private: a bind that asks for it still receives the host's mounts.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return proto.Fail("make mounts private", "", err)
	}
	tree, at, err := g.rootTree()
	if err != nil {
		return err
	}
	if err := mountfd.SetAttr(tree, unix.MountAttr{Propagation: unix.MS_PRIVATE}, true); err != nil {
		return proto.Fail("root", at, err)
	}
	// pivot_root wants a mount that is attached. Where does not matter: this is
	// our own mount namespace, and what lies beneath is gone after the pivot.
	place, err := unix.Open(at, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return proto.Fail("root", at, err)
	}
	defer unix.Close(place)
	if err := mountfd.Attach(tree, place); err != nil {
		return proto.Fail("root", at, err)
	}
	g.root = newRootDir(tree)
	return nil
}

// rootTree makes the mount of the root file system and says where to attach it.
func (g *guest) rootTree() (tree int, at string, err error) {
	if len(g.Root.Lower) == 0 {
		tree, err = mountfd.CloneTree(unix.AT_FDCWD, g.Root.Dir, true)
		return tree, g.Root.Dir, proto.Fail("root", g.Root.Dir, err)
	}
	if g.Root.Tree {
		// overlayfs takes layers of its own mount namespace; before Linux 6.15, no
		// others. That this one is over when the root is "/".
		if err := g.attachTree(g.Root.Lower[0]); err != nil {
			return -1, "", proto.Fail("root", g.Root.Lower[0], err)
		}
	}
	tree, err = mountfd.NewOverlay(mountfd.Overlay{
		Lower: g.Root.Lower, Upper: g.Root.Upper, Work: g.Root.Work, UserXattr: g.userNS, Volatile: g.Root.Volatile,
	})
	// Upper is a place under which nobody looks for anything any more.
	return tree, g.Root.Upper, proto.Fail("mount overlay", g.Root.Upper, err)
}

// attachTree attaches the tree that the parent has opened.
func (g *guest) attachTree(at string) error {
	defer unix.Close(proto.FirstFD)
	place, err := unix.Open(at, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(place)
	return mountfd.Attach(proto.FirstFD, place)
}

// workingDir makes the directory the process starts in where the image lacks it.
func (g *guest) workingDir() error {
	cwd := g.Spec.Process.Cwd
	fd, err := g.root.mkdirAll(cwd)
	switch err {
	case nil:
		return unix.Close(fd)
	case unix.EROFS, unix.EACCES, unix.ELOOP, unix.ENOTDIR, unix.EPERM:
		return nil // process.prepare says what is wrong with it
	}
	return proto.Fail("working directory", cwd, err)
}

// sealRoot is the last change of the root mount itself.
func (g *guest) sealRoot() error {
	attr := unix.MountAttr{}
	if g.Spec.Root.Readonly {
		attr.Attr_set = unix.MOUNT_ATTR_RDONLY
	}
	deep := false
	if p := g.Spec.Linux.RootfsPropagation; p != "" {
		how, ok := propagationOf[p]
		if !ok {
			return &proto.Failure{Stage: "root propagation", Path: p, Errno: unix.EINVAL}
		}
		attr.Propagation, deep = how.kind, how.deep
	}
	if attr.Attr_set == 0 && attr.Propagation == 0 {
		return nil
	}
	if deep {
		prop := unix.MountAttr{Propagation: attr.Propagation}
		if err := mountfd.SetAttr(g.root.fd(), prop, true); err != nil {
			return proto.Fail("root propagation", "", err)
		}
		attr.Propagation = 0
	}
	return proto.Fail("root", "", mountfd.SetAttr(g.root.fd(), attr, false))
}

// pivot makes the root "/" and lets go of the host's tree. chroot would leave
// that mounted, one escape away.
func (g *guest) pivot() error {
	old, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return proto.Fail("pivot_root", "", err)
	}
	defer unix.Close(old)
	if err := unix.Fchdir(g.root.fd()); err != nil {
		return proto.Fail("pivot_root", "", err)
	}
	// "." twice stacks the old root on the new one, and needs no directory in
	// the image to put it.
	if err := unix.PivotRoot(".", "."); err != nil {
		return proto.Fail("pivot_root", "", err)
	}
	if err := unix.Fchdir(old); err != nil {
		return proto.Fail("pivot_root", "", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return proto.Fail("detach the host's tree", "", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return proto.Fail("pivot_root", "", err)
	}
	return proto.Fail("pivot_root", "", g.root.dir.Close())
}

// sysctls writes kernel parameters through our own procfs, where no link of the
// image can lead the write elsewhere. Which may be written was decided by the
// caller: those of the container's own namespaces.
func (g *guest) sysctls() error {
	for key, value := range g.Spec.Linux.Sysctl {
		name := path.Join("sys", strings.ReplaceAll(key, ".", "/"))
		if err := g.writeProc(name, value); err != nil {
			return proto.Fail("sysctl", key, err)
		}
	}
	return nil
}

// writeProc writes to a file of our own procfs.
func (g *guest) writeProc(name, value string) error {
	fd, err := unix.Openat2(g.proc, name, &unix.OpenHow{
		Flags:   unix.O_WRONLY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(value))
	return err
}

// has says whether the container has a namespace of this kind of its own or
// joined.
func (g *guest) has(kind specs.LinuxNamespaceType) bool {
	for _, ns := range g.Spec.Linux.Namespaces {
		if ns.Type == kind {
			return true
		}
	}
	return false
}

// inUserNS says whether this process is in any user namespace but the first,
// which alone maps every id to itself.
func inUserNS() bool {
	buf := make([]byte, 128)
	fd, err := unix.Open("/proc/self/uid_map", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	n, _ := unix.Read(fd, buf)
	return strings.Join(strings.Fields(string(buf[:max(n, 0)])), " ") != "0 0 4294967295"
}
