package run

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"peel/internal/rawfork"
	"peel/internal/userns"
	"peel/pkg/run/internal/monitor"
	"peel/pkg/run/internal/mountfd"
	"peel/pkg/run/internal/proto"
)

// RemoveTree removes what a container leaves, and what it was made of. Files in it
// may belong to the user's subordinate ids, which he himself cannot remove.
func RemoveTree(path string) error {
	err := os.RemoveAll(path)
	if err == nil || os.Geteuid() == 0 || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return monitor.RemoveTree(path)
}

// removeMain removes a tree as root of a user namespace. It does not return.
func removeMain() {
	var path string
	err := proto.ReadConfig(&path)
	if err == nil {
		err = os.RemoveAll(path)
	}
	reportStarted(err)
	os.Exit(0)
}

// TryOverlay tells whether containers can have overlays that keep their changes in
// dir, which is this process's: nil, or the kernel's reason.
func TryOverlay(dir string) error {
	if os.Geteuid() != 0 {
		return monitor.TryOverlay(dir)
	}
	return rawfork.OnSpentThread(func() error { return tryOverlay(dir, false) })
}

// overlayMain does it as root of a user namespace. It does not return.
func overlayMain() {
	var dir string
	err := proto.ReadConfig(&dir)
	if err == nil {
		err = tryOverlay(dir, true)
	}
	reportStarted(err)
	os.Exit(0)
}

func tryOverlay(dir string, ownUser bool) (err error) {
	dir, err = os.MkdirTemp(dir, "overlay-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"lower", "upper", "work"} {
		if err := os.Mkdir(in(name), 0o755); err != nil {
			return err
		}
	}
	fd, err := mountfd.NewOverlay(mountfd.Overlay{Lower: []string{in("lower")}, Upper: in("upper"), Work: in("work"), UserXattr: ownUser, Volatile: true})
	if err != nil {
		return &os.PathError{Op: "mount overlay", Path: dir, Err: err}
	}
	return unix.Close(fd)
}

// UserMaps are the ids that a user's container can have: himself as its root,
// and above that his subordinate ids, where the machine gives him some.
func UserMaps() (uids, gids []specs.LinuxIDMapping) {
	m := userns.Own()
	return m.UIDs, m.GIDs
}
