// Package mountfd makes mounts that are descriptors until they are attached: between
// making one and attaching it no path can be swapped.
package mountfd

import (
	"bytes"
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"peel/pkg/run/internal/proto"
)

// NewFS makes a file system and a mount of it that is attached nowhere. params
// are key=value or flags, in the words of the file system.
func NewFS(kind, source string, params []string, attr int) (int, error) {
	ctx, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(ctx)
	if source != "" {
		if err := unix.FsconfigSetString(ctx, "source", source); err != nil {
			return -1, explained(ctx, err)
		}
	}
	for _, p := range params {
		key, value, ok := strings.Cut(p, "=")
		if ok {
			err = unix.FsconfigSetString(ctx, key, value)
		} else {
			err = unix.FsconfigSetFlag(ctx, key)
		}
		if err != nil {
			return -1, explained(ctx, err)
		}
	}
	if err := unix.FsconfigCreate(ctx); err != nil {
		return -1, explained(ctx, err)
	}
	return unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, attr)
}

// explained adds what the kernel wrote about a failed file system context.
func explained(ctx int, err error) error {
	buf := make([]byte, 4096)
	var said []string
	for {
		n, rerr := unix.Read(ctx, buf)
		if rerr != nil || n <= 0 {
			break
		}
		// "e proc: Bad value for 'hidepid'"
		if line := string(bytes.TrimSpace(buf[:n])); len(line) > 2 && line[1] == ' ' {
			said = append(said, line[2:])
		}
	}
	var errno unix.Errno
	if len(said) == 0 || !errors.As(err, &errno) {
		return err
	}
	return &proto.Failure{Stage: "mount", Errno: errno, Text: errno.Error() + ": " + strings.Join(said, "; ")}
}

// CloneTree copies the mount at path, or of the descriptor dir where path is
// empty, with those below it if deep.
func CloneTree(dir int, path string, deep bool) (int, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if path == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	if deep {
		flags |= unix.AT_RECURSIVE
	}
	return unix.OpenTree(dir, path, flags)
}

// SetAttr changes a mount, with those below it if deep.
func SetAttr(mount int, attr unix.MountAttr, deep bool) error {
	flags := uint(unix.AT_EMPTY_PATH)
	if deep {
		flags |= unix.AT_RECURSIVE
	}
	return unix.MountSetattr(mount, "", flags, &attr)
}

// Attach puts a mount on top of what target names.
func Attach(mount, target int) error {
	return unix.MoveMount(mount, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}
