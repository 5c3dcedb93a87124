package guest

import (
	"fmt"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"peel/pkg/run/internal/mountfd"
	"peel/pkg/run/internal/proto"
)

// mounts makes the mounts of config.json in their order.
func (g *guest) mounts() error {
	for i, m := range g.Spec.Mounts {
		if err := g.mount(i, m); err != nil {
			return proto.Fail("mount", m.Destination, err)
		}
	}
	return nil
}

func (g *guest) mount(i int, m specs.Mount) error {
	o := parseOptions(m.Options)
	if o.unsupported != "" {
		return fmt.Errorf("mount option %q is not supported", o.unsupported)
	}
	switch {
	case o.bind || m.Type == "bind":
		tree, err := g.source(i, m, o)
		if err != nil {
			return proto.Fail("bind", m.Source, err)
		}
		defer unix.Close(tree)
		return g.bind(tree, m, o)
	case m.Type == "cgroup" || m.Type == "cgroup2":
		return g.mountCgroup(m, o)
	}
	target, err := g.directory(m)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	if m.Type == "tmpfs" && !hasKey(o.data, "mode") {
		// As the directory it covers: /tmp stays 1777.
		var st unix.Stat_t
		if err := unix.Fstat(target, &st); err != nil {
			return err
		}
		o.data = append(o.data, fmt.Sprintf("mode=%o", st.Mode&0o7777))
	}
	if g.Spec.Linux.MountLabel != "" && (m.Type == "tmpfs" || m.Type == "devpts" || m.Type == "mqueue") {
		o.data = append(o.data, "context="+g.Spec.Linux.MountLabel)
	}
	source := m.Source
	if source == "" {
		source = m.Type
	}
	fs, err := mountfd.NewFS(m.Type, source, o.data, int(o.attr.Attr_set))
	if err != nil {
		return err
	}
	defer unix.Close(fs)
	return g.place(fs, target, o)
}

func hasKey(data []string, key string) bool {
	for _, d := range data {
		if k, _, _ := strings.Cut(d, "="); k == key {
			return true
		}
	}
	return false
}

// place gives a new mount its propagation and attaches it.
func (g *guest) place(mount, target int, o options) error {
	if o.deepAttr.Attr_set|o.deepAttr.Attr_clr != 0 {
		if err := mountfd.SetAttr(mount, o.deepAttr, true); err != nil {
			return err
		}
	}
	if o.propagation != 0 {
		if err := mountfd.SetAttr(mount, unix.MountAttr{Propagation: o.propagation}, o.deepProp); err != nil {
			return err
		}
	}
	return mountfd.Attach(mount, target)
}

// mustBeReal are the places that everything later trusts. An image that has a
// link there would have peel, or the container's own tools, write to another
// file system than they think (CVE-2019-19921, CVE-2023-27561, CVE-2026-41579).
func mustBeReal(m specs.Mount) bool {
	switch m.Type {
	case "proc", "sysfs", "cgroup", "cgroup2":
		return true
	}
	switch path.Clean(m.Destination) {
	case "/dev", "/proc", "/sys":
		return true
	}
	return false
}

// directory opens the place of a mount, made if it is missing.
func (g *guest) directory(m specs.Mount) (int, error) {
	if !mustBeReal(m) {
		return g.root.mkdirAll(m.Destination)
	}
	fd, err := g.root.openStrict(m.Destination, unix.O_PATH|unix.O_DIRECTORY)
	if err == unix.ENOENT {
		if fd, err = g.root.mkdirAll(m.Destination); err != nil {
			return -1, err
		}
		unix.Close(fd)
		fd, err = g.root.openStrict(m.Destination, unix.O_PATH|unix.O_DIRECTORY)
	}
	if err == unix.ELOOP || err == unix.ENOTDIR {
		return -1, &proto.Failure{Stage: "mount", Path: m.Destination, Errno: err.(unix.Errno), Text: "the image has something else than a directory there"}
	}
	return fd, err
}

// source opens what a bind mount shows, as a mount that is attached nowhere.
func (g *guest) source(i int, m specs.Mount, o options) (int, error) {
	if fd, ok := g.Mapped[i]; ok {
		return fd, nil
	}
	return mountfd.CloneTree(unix.AT_FDCWD, m.Source, o.deep)
}

// bind mounts a file or directory of the host, by its source.
func (g *guest) bind(tree int, m specs.Mount, o options) error {
	if len(o.data) > 0 {
		return fmt.Errorf("mount option %q means nothing for a bind mount", o.data[0])
	}
	var st unix.Stat_t
	if err := unix.Fstat(tree, &st); err != nil {
		return err
	}
	var target int
	var err error
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		target, err = g.directory(m)
	default:
		target, err = g.root.makeFile(m.Destination)
	}
	if err != nil {
		return err
	}
	defer unix.Close(target)
	if slices.Contains(g.Fill, m.Destination) {
		if err := g.fill(tree, target); err != nil {
			return proto.Fail("fill volume", m.Destination, err)
		}
	}
	// Nothing that is mounted in the container shows on the host or the reverse,
	// unless asked for below.
	if o.propagation != unix.MS_SLAVE && o.propagation != unix.MS_SHARED {
		if err := mountfd.SetAttr(tree, unix.MountAttr{Propagation: unix.MS_PRIVATE}, true); err != nil {
			return err
		}
	}
	if o.attr.Attr_set|o.attr.Attr_clr != 0 {
		if err := mountfd.SetAttr(tree, o.attr, false); err != nil {
			return err
		}
	}
	return g.place(tree, target, o)
}
