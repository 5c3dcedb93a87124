// Package export writes a tree of files as one tar archive: what a container's
// rootfs holds, running or not, as an archive that every tar reads.
//
// # The archive
//
// It is a POSIX pax archive. Entries come sorted, each directory before what it
// holds, their names relative and without "./"; the root itself has no entry but
// in layers.
// The same tree gives the same bytes. A plain ustar header carries what fits in
// it, and extended records before it carry the rest: long names, times below the
// second, large ids and sizes, and extended attributes as SCHILY.xattr.*, access
// control lists as SCHILY.acl.* too. Names
// are the file system's bytes, of whatever encoding. Of several names of one file
// the first carries the data and the others are hard links to it. A file with
// large holes is stored without them (GNU.sparse 1.0). Sockets, which tar has no
// type for, are left out.
//
// # A tree that does not hold still
//
// The tree may belong to a running container, and the container may be hostile:
// it swaps a file for a link to /etc/shadow, a directory for a link to /, a file
// for a device that does something when it is opened. So no path is ever
// resolved. Every name is opened under the descriptor of its directory, without
// following a link, as a mere handle (O_PATH); what it is is asked of that handle,
// and only a regular file is opened for reading, through the handle. A file that
// shrinks or grows while it is read fills exactly what its header promised.
package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"peel/pkg/erofs"
	"peel/pkg/progress"
)

// Form is how a tree keeps the owners, modes and devices of its files.
type Form int

const (
	// Plain is a tree whose files are what they seem to be.
	Plain Form = iota
	// OverrideStat is a tree made by a user who may own files under one id only:
	// the attribute user.containers.override_stat of a file says what it stands
	// for, as podman and fuse-overlayfs have it. What has no such attribute
	// and belongs to the caller belongs to root.
	OverrideStat
)

// Kind is what an archive is for.
type Kind int

const (
	// Archive is the files of a root file system.
	Archive Kind = iota
	// Layer is a layer that makes the tree where there was nothing (image-spec
	// layer.md). The root has an entry, too, "./". Files whose names begin with
	// ".wh." are left out, for there they would mean that something is deleted.
	Layer
	// Changes is a layer of the changes that lie in the upper directory of an
	// overlay: what it has as whiteouts and opaque directories becomes such entries.
	Changes
)

// Options says how Tree is to see the tree. Its zero value is what a user wants.
type Options struct {
	Form Form
	Kind Kind

	// UserXattr says that the overlay of Changes was mounted with that option: its
	// marks are user.overlay.* attributes instead of trusted.overlay.*.
	UserXattr bool

	// Places, of Changes, are paths in the tree on which somebody mounts something,
	// as "etc/hosts". Empty files and directories there were made for that, and are
	// no changes.
	Places map[string]bool

	// Mounts includes what is mounted in the tree, but for what the kernel shows as
	// files, like /proc. Otherwise a place where
	// something is mounted (a container's /proc, /sys, /dev, volumes) is an empty
	// directory, or an empty file.
	Mounts bool

	// Progress hears of what the archive could not keep: one Warning for each
	// kind of thing.
	Progress progress.Func
}

// Tree writes what lies beneath root, an open directory (O_PATH is enough), to w
// as one tar archive, its end marker included. root stays the caller's.
//
// It writes pieces of at most 256 KiB from a goroutine of its own, which has
// ended when Tree returns; a Write that blocks is not broken off by ctx. If w is an
// *os.File and a pipe, large files go in without being copied. Memory
// is bounded, but for the names of one directory after the other and of hard
// links seen so far; beyond 256 MiB of these it is a *LimitError. What goes wrong
// with a file of the tree is an *EntryError.
func Tree(ctx context.Context, root *os.File, w io.Writer, o Options) error {
	return write(ctx, root, nil, nil, w, o, func(t *walker) error { return t.walk(ctx, int(root.Fd())) })
}

// Overlay writes what an overlay shows that has root as its upper directory, over a
// tree in memory of which the files' bytes lie on devices, as Tree would write it. It
// does not change the tree. Changes are not for it.
func Overlay(ctx context.Context, root *os.File, lower *erofs.Inode, devices []erofs.Device, w io.Writer, o Options) error {
	return write(ctx, root, lower, devices, w, o, func(t *walker) error { return t.walk(ctx, int(root.Fd())) })
}

// Entry is Tree for f itself, a handle (O_PATH) of whatever there is, and for what
// lies beneath it. Its name in the archive is the one that is given.
func Entry(ctx context.Context, f *os.File, name string, w io.Writer, o Options) error {
	return write(ctx, f, nil, nil, w, o, func(t *walker) error {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return t.fault("open", err)
		}
		t.path = append(t.path, name...)
		return t.handle(ctx, fd, nil)
	})
}

func write(ctx context.Context, top *os.File, lower *erofs.Inode, devices []erofs.Device, w io.Writer, o Options, walk func(*walker) error) error {
	lost := &warnings{report: o.Progress}
	out := newOutput(ctx, w, func(name string) { lost.warn(lostChange, name) })
	t, err := newWalker(int(top.Fd()), lower, out, lost, o)
	if err == nil && ofKernel(int(top.Fd())) {
		t.close()
		err = t.fault("read", errNoFile)
	}
	if err == nil {
		if lower != nil {
			t.memory = newMemoryWalker(lower, devices, out, lost, o)
		}
		err = walk(t)
		t.close()
	}
	runtime.KeepAlive(top)
	if err != nil {
		out.abort()
		return err
	}
	return out.close()
}

// errNoFile: to read all of /proc never ends, and reading can have effects.
var errNoFile = errors.New("is shown by the kernel, and no file to keep")

// EntryError says what could not be done with an entry of the tree.
type EntryError struct {
	Name string // relative to the tree's root, which is "."
	Op   string // such as "open" or "read"
	Err  error
}

func (e *EntryError) Error() string { return fmt.Sprintf("entry %q: %s: %v", e.Name, e.Op, e.Err) }
func (e *EntryError) Unwrap() error { return e.Err }

// LimitError reports a tree that goes beyond what Tree holds in memory or what
// other readers of tar would take.
type LimitError struct {
	What       string
	Got, Limit int64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%d %s, the limit is %d", e.Got, e.What, e.Limit)
}

const (
	// maxName is the longest name in an archive: PATH_MAX, beyond which no
	// program could open the file by its name.
	maxName = 4096
	// maxHeld is how many bytes of names are held at once.
	maxHeld = 256 << 20
	// maxXattrs bounds all attributes of an entry: archive/tar takes no extended
	// header beyond 1 MiB.
	maxXattrs = 1<<20 - 64<<10
)
