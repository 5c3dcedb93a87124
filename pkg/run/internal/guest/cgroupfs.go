package guest

import (
	"bufio"
	"os"
	"path"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"peel/pkg/run/internal/mountfd"
	"peel/pkg/run/internal/proto"
)

// mountCgroup mounts the container's view of its cgroups: with a cgroup
// namespace the hierarchies themselves, whose root it is, else its own
// directories, bound.
func (g *guest) mountCgroup(m specs.Mount, o options) error {
	target, err := g.directory(m)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	const host = "/sys/fs/cgroup"
	var st unix.Statfs_t
	if err := unix.Statfs(host, &st); err == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
		dir := g.Cgroups[""]
		if dir == "" && !g.has(specs.CgroupNamespace) {
			// The whole tree is what is left to show, and not to be written to.
			dir = host
			o.attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
		}
		fs, err := g.hierarchy("cgroup2", nil, dir, o)
		if err != nil {
			return err
		}
		defer unix.Close(fs)
		return g.place(fs, target, o)
	}
	return g.mountCgroupV1(m, target, o)
}

// hierarchy makes one cgroup mount.
func (g *guest) hierarchy(kind string, params []string, dir string, o options) (int, error) {
	if g.has(specs.CgroupNamespace) {
		return mountfd.NewFS(kind, "cgroup", params, int(o.attr.Attr_set))
	}
	tree, err := mountfd.CloneTree(unix.AT_FDCWD, dir, false)
	if err != nil {
		return -1, proto.Fail("bind", dir, err)
	}
	o.attr.Propagation = unix.MS_PRIVATE
	return tree, mountfd.SetAttr(tree, o.attr, false)
}

// mountCgroupV1 lays the hierarchies of version 1 out under a tmpfs, as
// /sys/fs/cgroup of a host has them.
func (g *guest) mountCgroupV1(m specs.Mount, target int, o options) error {
	tmp, err := mountfd.NewFS("tmpfs", "cgroup", []string{"mode=755"}, int(o.attr.Attr_set)&^unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		return err
	}
	dir := newRootDir(tmp)
	defer dir.dir.Close()
	if err := mountfd.Attach(tmp, target); err != nil {
		return err
	}
	hierarchies, err := ownHierarchies()
	if err != nil {
		return err
	}
	for _, controllers := range hierarchies {
		if err := g.mountV1(dir, controllers, o); err != nil {
			return proto.Fail("mount cgroup", path.Join(m.Destination, controllers), err)
		}
	}
	if o.attr.Attr_set&unix.MOUNT_ATTR_RDONLY != 0 {
		return mountfd.SetAttr(tmp, unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}, false)
	}
	return nil
}

// mountV1 mounts the hierarchy of some controllers, "cpu,cpuacct" or
// "name=systemd".
func (g *guest) mountV1(tmp rootDir, controllers string, o options) error {
	name := strings.TrimPrefix(controllers, "name=")
	params := strings.Split(controllers, ",")
	dir := g.Cgroups[params[0]]
	if dir == "" {
		if !g.has(specs.CgroupNamespace) {
			return nil // the container is in no cgroup of its own there
		}
	}
	fs, err := g.hierarchy("cgroup", params, dir, o)
	if err != nil {
		return err
	}
	defer unix.Close(fs)
	at, err := tmp.mkdirAll(name)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	if err := mountfd.Attach(fs, at); err != nil {
		return err
	}
	if len(params) > 1 {
		for _, alias := range params {
			if err := unix.Symlinkat(name, tmp.fd(), alias); err != nil && err != unix.EEXIST {
				return err
			}
		}
	}
	return nil
}

// ownHierarchies lists the version 1 hierarchies this process is in.
func ownHierarchies() ([]string, error) {
	f, err := os.Open("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// "4:memory:/path"; version 2 has no controllers here.
		if f := strings.SplitN(lines.Text(), ":", 3); len(f) == 3 && f[1] != "" && filepath.IsLocal(f[1]) {
			all = append(all, f[1])
		}
	}
	return all, nil
}
