package guest

import (
	"path"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

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
	if err := setAttr(tree, unix.MountAttr{Propagation: unix.MS_PRIVATE}, true); err != nil {
		return proto.Fail("root", at, err)
	}
	// pivot_root wants a mount that is attached. Where does not matter: this is
	// our own mount namespace, and what lies beneath is gone after the pivot.
	place, err := unix.Open(at, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return proto.Fail("root", at, err)
	}
	defer unix.Close(place)
	if err := attach(tree, place); err != nil {
		return proto.Fail("root", at, err)
	}
	g.root = newRootDir(tree)
	return nil
}

// rootTree makes the mount of the root file system and says where to attach it.
func (g *guest) rootTree() (tree int, at string, err error) {
	if len(g.Root.Lower) == 0 {
		tree, err = cloneTree(unix.AT_FDCWD, g.Root.Dir, true)
		return tree, g.Root.Dir, proto.Fail("root", g.Root.Dir, err)
	}
	var params []string
	// "lowerdir+" takes one layer at a time, with any characters and without
	// the page that mount(2) allows for all (Linux 6.5); before, one string.
	if overlayAppends() {
		for _, l := range g.Root.Lower {
			params = append(params, "lowerdir+="+l)
		}
	} else {
		escape := strings.NewReplacer(`\`, `\\`, `:`, `\:`)
		var all []string
		for _, l := range g.Root.Lower {
			all = append(all, escape.Replace(l))
		}
		params = append(params, "lowerdir="+strings.Join(all, ":"))
	}
	params = append(params, "upperdir="+g.Root.Upper, "workdir="+g.Root.Work)
	if g.userNS {
		// trusted.* attributes are out of reach without real privilege.
		params = append(params, "userxattr")
	}
	tree, err = newFS("overlay", "overlay", params, 0)
	return tree, filepath.Dir(g.Root.Upper), proto.Fail("mount overlay", g.Root.Upper, err)
}

// overlayAppends asks the kernel for lowerdir+ on a context that is thrown away.
func overlayAppends() bool {
	ctx, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return false
	}
	defer unix.Close(ctx)
	return unix.FsconfigSetString(ctx, "lowerdir+", "/") == nil
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
		if err := setAttr(g.root.fd(), prop, true); err != nil {
			return proto.Fail("root propagation", "", err)
		}
		attr.Propagation = 0
	}
	return proto.Fail("root", "", setAttr(g.root.fd(), attr, false))
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
