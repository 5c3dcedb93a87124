package monitor

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"peel/internal/rawfork"
	"peel/pkg/run/internal/mountfd"
	"peel/pkg/run/internal/proto"
)

// Mapped says whether the owners of files are to be other ones in a mount.
func Mapped(m specs.Mount) bool {
	return len(m.UIDMappings)+len(m.GIDMappings) > 0 || slices.Contains(m.Options, "idmap") || slices.Contains(m.Options, "ridmap")
}

// mappedMounts opens the sources of mounts whose owners are mapped, in their order.
// That is done here, as it takes privilege over the file system, which a container
// with a user namespace has not. The files are the caller's.
func mappedMounts(s *proto.Spec) (mounts []*os.File, err error) {
	for _, m := range s.Mounts {
		if !Mapped(m) {
			continue
		}
		f, err := mappedMount(m, s.Linux)
		if err != nil {
			for _, f := range mounts {
				f.Close()
			}
			return nil, proto.Fail("id-mapped mount", m.Destination, err)
		}
		mounts = append(mounts, f)
	}
	return mounts, nil
}

func mappedMount(m specs.Mount, l proto.Linux) (*os.File, error) {
	uids, gids := m.UIDMappings, m.GIDMappings
	if len(uids)+len(gids) == 0 {
		// runtime-spec config.md, Mounts: those of the container, then.
		uids, gids = l.UIDMappings, l.GIDMappings
	}
	ns, err := mappingNS(uids, gids)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	tree, err := mountfd.CloneTree(unix.AT_FDCWD, m.Source, slices.Contains(m.Options, "rbind"))
	if err != nil {
		return nil, err
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns.Fd())}
	if err := mountfd.SetAttr(tree, attr, slices.Contains(m.Options, "ridmap")); err != nil {
		unix.Close(tree)
		return nil, err
	}
	return os.NewFile(uintptr(tree), m.Source), nil
}

// errMapped ends a child that was only there for its user namespace.
var errMapped = errors.New("mapped")

// mappingNS makes a user namespace, which lives by its descriptor alone: mounts take
// their mappings from one.
func mappingNS(uids, gids []specs.LinuxIDMapping) (*os.File, error) {
	var ns *os.File
	_, _, err := rawfork.Start("/", nil, &rawfork.Attr{Flags: unix.CLONE_NEWUSER, Prepare: func(pid int) error {
		for file, ids := range map[string][]specs.LinuxIDMapping{"uid_map": uids, "gid_map": gids} {
			var lines strings.Builder
			for _, id := range ids {
				fmt.Fprintf(&lines, "%d %d %d\n", id.ContainerID, id.HostID, id.Size)
			}
			if err := os.WriteFile(fmt.Sprintf("/proc/%d/%s", pid, file), []byte(lines.String()), 0); err != nil {
				return err
			}
		}
		var err error
		if ns, err = os.Open(fmt.Sprintf("/proc/%d/ns/user", pid)); err != nil {
			return err
		}
		return errMapped
	}})
	if errors.Is(err, errMapped) {
		return ns, nil
	}
	return nil, err
}
