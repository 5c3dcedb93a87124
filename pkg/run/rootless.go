package run

import (
	"errors"
	"io/fs"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"peel/internal/userns"
	"peel/pkg/run/internal/monitor"
	"peel/pkg/run/internal/proto"
)

// removeTree removes what a container leaves. A user's container may have made
// files of the user's subordinate ids, which he himself cannot remove.
func removeTree(path string) error {
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

// UserMaps are the ids that a user's container can have: himself as its root,
// and above that his subordinate ids, where the machine gives him some.
func UserMaps() (uids, gids []specs.LinuxIDMapping) {
	m := userns.Own()
	return m.UIDs, m.GIDs
}
