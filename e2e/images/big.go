package images

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// big is what a compiler image looks like: more than a gigabyte in more than
// thirty thousand files. The last layer has what few packages have: devices,
// capabilities, other attributes, nanoseconds.
var big = bulk{
	groups: []string{
		"golang-1.19-src golang-1.19-go",
		"libllvm14 llvm-14-dev libclang-cpp14",
		"libboost1.74-dev",
	},
	more: func(r *rootfs) error {
		if err := rarities(r.dir); err != nil {
			return err
		}
		return r.commit("devices, capabilities, attributes", layerOptions{nanoseconds: true})
	},
}

// rarities adds one of each kind of file that a rootfs may hold and hardly ever
// does, and touches a few of the lower layers'.
func rarities(root string) error {
	dir := filepath.Join(root, "opt/rare")
	in := func(name string) string { return filepath.Join(dir, name) }
	// cap_net_raw=ep in the second revision of the kernel's vfs_cap_data.
	netRaw := []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	long := strings.Repeat("long-name-", 24) // more than a tar header holds

	for _, step := range []func() error{
		func() error { return os.MkdirAll(dir, 0o755) },
		func() error { return unix.Mknod(in("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) },
		func() error { return unix.Mknod(in("loop7"), unix.S_IFBLK|0o660, int(unix.Mkdev(7, 7))) },
		func() error { return unix.Mkfifo(in("fifo"), 0o640) },
		func() error { return os.WriteFile(in("ping"), []byte("#!/bin/true\n"), 0o755) },
		func() error { return os.Lchown(in("ping"), 1234, 5678) },
		func() error { return unix.Lsetxattr(in("ping"), "security.capability", netRaw, 0) },
		func() error { return unix.Lsetxattr(in("ping"), "user.note", []byte("two\x00parts"), 0) },
		func() error { return os.WriteFile(in("set-ids"), nil, 0o644) },
		func() error { return os.Chmod(in("set-ids"), 0o755|os.ModeSetuid|os.ModeSetgid) },
		func() error { return os.Mkdir(in("shared"), 0o755) },
		func() error { return os.Lchown(in("shared"), 0, 5678) },
		func() error { return os.Chmod(in("shared"), 0o775|os.ModeSetgid|os.ModeSticky) },
		func() error { return os.WriteFile(in("größe ☃\nzwei"), []byte("a name of several lines\n"), 0o600) },
		func() error { return os.WriteFile(in(long), []byte("x"), 0o644) },
		func() error { return os.Link(in(long), in("hard")) },
		func() error { return os.Symlink("/"+long+"/nowhere", in("soft")) },
		func() error { return os.Lchown(in("soft"), 70000, 70000) },
		func() error { return os.Remove(filepath.Join(root, "usr/lib/go-1.19/VERSION")) },
		func() error { return os.Chmod(filepath.Join(root, "usr/lib/go-1.19/bin/go"), 0o750) },
		func() error {
			return os.Chtimes(in("hard"), time.Time{}, time.Unix(1_000_000_000, 123_456_789))
		},
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
