package guest

import (
	"fmt"
	"os"
	"path"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"peel/pkg/run/internal/mountfd"
	"peel/pkg/run/internal/proto"
)

// defaultDevices are those that runtime-spec config-linux.md, Default Devices,
// promises every container.
func defaultDevices() []specs.LinuxDevice {
	mode := os.FileMode(0o666)
	device := func(name string, major, minor int64) specs.LinuxDevice {
		return specs.LinuxDevice{Path: "/dev/" + name, Type: "c", Major: major, Minor: minor, FileMode: &mode}
	}
	return []specs.LinuxDevice{
		device("null", 1, 3), device("zero", 1, 5), device("full", 1, 7),
		device("random", 1, 8), device("urandom", 1, 9), device("tty", 5, 0),
	}
}

// devices makes device nodes and the links every program expects in /dev.
func (g *guest) devices() error {
	for _, d := range append(defaultDevices(), g.Spec.Linux.Devices...) {
		if err := g.device(d); err != nil {
			return proto.Fail("device", d.Path, err)
		}
	}
	dev, err := g.root.openStrict("/dev", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return proto.Fail("open", "/dev", err)
	}
	defer unix.Close(dev)
	for _, l := range [][2]string{
		{"fd", "/proc/self/fd"}, {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"},
		{"stderr", "/proc/self/fd/2"}, {"ptmx", "pts/ptmx"},
	} {
		// What an image brings in a /dev that nothing was mounted on stays: peel
		// removes no name that it has not made.
		if err := unix.Symlinkat(l[1], dev, l[0]); err != nil && err != unix.EEXIST {
			return proto.Fail("link", "/dev/"+l[0], err)
		}
	}
	return nil
}

func (g *guest) device(d specs.LinuxDevice) error {
	kind, err := deviceKind(d.Type)
	if err != nil {
		return err
	}
	dir, err := g.root.mkdirAll(path.Dir(d.Path))
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	name, rdev := path.Base(d.Path), unix.Mkdev(uint32(d.Major), uint32(d.Minor))
	mode := uint32(0o666)
	if d.FileMode != nil {
		mode = uint32(d.FileMode.Perm())
	}
	if g.userNS {
		return g.bindDevice(d, kind, rdev)
	}
	switch err := unix.Mknodat(dir, name, kind|mode, int(rdev)); err {
	case nil:
	case unix.EEXIST:
		return sameDevice(dir, name, kind, rdev)
	default:
		return err
	}
	uid, gid := 0, 0
	if d.UID != nil {
		uid = int(*d.UID)
	}
	if d.GID != nil {
		gid = int(*d.GID)
	}
	if uid == 0 && gid == 0 {
		return nil
	}
	return unix.Fchownat(dir, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
}

func deviceKind(word string) (uint32, error) {
	switch word {
	case "c", "u":
		return unix.S_IFCHR, nil
	case "b":
		return unix.S_IFBLK, nil
	case "p":
		return unix.S_IFIFO, nil
	}
	return 0, fmt.Errorf("device type %q", word)
}

// sameDevice accepts a node that is already what was asked for.
func sameDevice(dir int, name string, kind uint32, rdev uint64) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != kind || st.Rdev != rdev {
		return &proto.Failure{Stage: "device", Path: name, Errno: unix.EEXIST, Text: "the image has another file there"}
	}
	return nil
}

// bindDevice shows the host's node where none can be made.
func (g *guest) bindDevice(d specs.LinuxDevice, kind uint32, rdev uint64) error {
	tree, err := hostDevice(d.Path, kind, rdev)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	target, err := g.root.makeFile(d.Path)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	return mountfd.Attach(tree, target)
}

// hostDevice clones the mount of a device node of the host, and makes sure of
// what it is: the name alone has been swapped before (CVE-2025-31133).
func hostDevice(name string, kind uint32, rdev uint64) (int, error) {
	tree, err := mountfd.CloneTree(unix.AT_FDCWD, name, false)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	err = unix.Fstat(tree, &st)
	if err == nil && (st.Mode&unix.S_IFMT != kind || st.Rdev != rdev) {
		err = &proto.Failure{Stage: "device", Path: name, Errno: unix.ENODEV, Text: "the host has another file there"}
	}
	if err == nil {
		err = mountfd.SetAttr(tree, unix.MountAttr{Propagation: unix.MS_PRIVATE}, false)
	}
	if err != nil {
		unix.Close(tree)
		return -1, err
	}
	return tree, nil
}
