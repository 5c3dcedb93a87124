package export

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"peel/pkg/erofs"
	"peel/pkg/progress"
)

// walker goes through one tree, depth first and sorted.
type walker struct {
	*warnings
	out  *output
	o    Options
	enc  encoder
	proc int          // /proc/self/fd, to open for reading what a handle stands for
	top  unix.Statx_t // what the root is
	uid  uint32       // the caller's
	gid  uint32

	path    []byte // of the entry at hand, relative to the root
	dirTime int64  // the modification time of the directory at hand, in seconds

	// The names of the directories from the root to the one at hand, each ended
	// by a NUL, and where in names they begin. Both are stacks.
	names  []byte
	starts []int

	links     map[inode]*manyNamed // of files that have others still to come
	linkBytes int

	xattr  xattrReader
	target []byte // of a symbolic link
	dents  []byte

	// What the tree lies over, and who writes of it what is not hidden; nil if it
	// lies over nothing.
	lower  *erofs.Inode
	memory *memoryWalker
}

// inode is a file whatever its name. Its birth tells apart two files that had the
// same number one after the other.
type inode struct {
	dev, ino uint64
	born     int64
}

// manyNamed is what is known of a file with several.
type manyNamed struct {
	first string
	left  uint32 // how many are still to come, if all lie in the tree
}

func newWalker(root int, lower *erofs.Inode, out *output, lost *warnings, o Options) (*walker, error) {
	w := &walker{
		warnings: lost,
		out:      out,
		o:        o,
		uid:      uint32(os.Geteuid()),
		gid:      uint32(os.Getegid()),
		links:    map[inode]*manyNamed{},
		target:   make([]byte, unix.PathMax),
		dents:    make([]byte, 64<<10),
		lower:    lower,
	}
	if err := stat(root, &w.top); err != nil {
		return nil, &EntryError{".", "stat", err}
	}
	var err error
	if w.proc, err = openProc(); err != nil {
		return nil, err
	}
	w.xattr.form = o.Form
	if o.Kind == Changes || lower != nil {
		w.xattr.marks = "trusted.overlay."
		if o.UserXattr {
			w.xattr.marks = "user.overlay."
		}
	}
	return w, nil
}

var dot = []byte(".\x00")

// openProc opens the directory of this process's own descriptors.
func openProc() (int, error) {
	const path = "/proc/self/fd"
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil || fs.Type != unix.PROC_SUPER_MAGIC {
		unix.Close(fd)
		return -1, fmt.Errorf("%s is not of a proc file system", path)
	}
	return fd, nil
}

func (w *walker) close() { unix.Close(w.proc) }

// walk writes what lies beneath root.
func (w *walker) walk(ctx context.Context, root int) error {
	fd, err := openat(root, dot, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return w.fault("open", err)
	}
	defer unix.Close(fd)
	if w.o.Kind != Archive {
		if err := w.rootEntry(fd); err != nil {
			return err
		}
	}
	return w.directory(ctx, fd, w.top.Mtime.Sec, w.lower)
}

// directory writes the entries of the directory fd, which stays open, over those of
// lower, unless that is nil.
func (w *walker) directory(ctx context.Context, fd int, mtime int64, lower *erofs.Inode) error {
	name, start, path := len(w.names), len(w.starts), len(w.path)
	if err := w.list(fd); err != nil {
		return err
	}
	slices.SortFunc(w.starts[start:], func(a, b int) int { return bytes.Compare(w.nameAt(a), w.nameAt(b)) })
	below := sorted(lower)
	for i := start; i < len(w.starts) || len(below) > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if path > 0 {
			w.path = append(w.path, '/')
		}
		order := -1 // of what is here and below: which comes first
		if i == len(w.starts) {
			order = 1
		} else if len(below) > 0 {
			order = strings.Compare(string(w.nameAt(w.starts[i])), below[0].Name)
		}
		var under erofs.Dirent
		if order >= 0 {
			under, below = below[0], below[1:]
		}
		var err error
		if order > 0 {
			w.path = append(w.path, under.Name...)
			err = w.memory.entry(ctx, w.path, under.Name, under.Inode)
		} else {
			at := w.starts[i]
			i++
			w.path = append(w.path, w.nameAt(at)...)
			w.dirTime = mtime
			err = w.entry(ctx, fd, w.names[at:], under.Inode)
		}
		if err != nil {
			return err
		}
		w.path = w.path[:path]
	}
	w.names, w.starts = w.names[:name], w.starts[:start]
	return nil
}

func (w *walker) nameAt(i int) []byte {
	name := w.names[i:]
	return name[:bytes.IndexByte(name, 0)]
}

// list pushes the names of the directory fd.
func (w *walker) list(fd int) error {
	for {
		n, err := unix.Getdents(fd, w.dents)
		if err == unix.EINTR {
			continue
		}
		if err == unix.ENOENT { // it was removed meanwhile
			return nil
		}
		if err != nil {
			return w.fault("read", err)
		}
		if n == 0 {
			return nil
		}
		for b := w.dents[:n]; len(b) > 0; {
			// struct linux_dirent64: inode, offset, this length, type, name.
			const lengthAt, nameAt = 16, 19
			size := binary.NativeEndian.Uint16(b[lengthAt:])
			name := b[nameAt:size]
			name = name[:bytes.IndexByte(name, 0)+1]
			b = b[size:]
			if string(name) == ".\x00" || string(name) == "..\x00" {
				continue
			}
			w.starts = append(w.starts, len(w.names))
			w.names = append(w.names, name...)
		}
		if err := w.hold(); err != nil {
			return err
		}
		if err := w.out.ctx.Err(); err != nil {
			return err
		}
	}
}

// hold checks what names and links take in memory.
func (w *walker) hold() error {
	const perName, perLink = 8, 96 // beside the bytes
	held := len(w.names) + perName*len(w.starts) + w.linkBytes + perLink*len(w.links)
	if held > maxHeld {
		return &LimitError{"bytes of names to hold at once", int64(held), maxHeld}
	}
	return nil
}

// reopen opens for reading what the handle fd stands for.
func (w *walker) reopen(fd, flags int) (int, error) {
	var name [20]byte
	return openat(w.proc, append(strconv.AppendInt(name[:0], int64(fd), 10), 0), flags)
}

func (w *walker) name() string {
	if len(w.path) == 0 {
		return "."
	}
	return string(w.path)
}

func (w *walker) fault(op string, err error) error { return &EntryError{w.name(), op, err} }

// loss is a kind of thing that an archive could not keep.
type loss int

const (
	lostSocket loss = iota
	lostName
	lostChange
	lostXattr
	lostWhiteout
	lossKinds
)

var losses = [lossKinds]string{
	lostSocket: "a socket, left out: tar has no type for it",
	lostName:   "gone before it could be read, left out",
	lostChange: "changed its size while it was read: it is cut off or filled up with zeros",
	lostXattr:  "has an extended attribute whose name tar cannot keep",

	lostWhiteout: "left out: in a layer, a name that begins with .wh. means that something is deleted",
}

// warnings tells of the first loss of each kind, from any goroutine.
type warnings struct {
	report progress.Func
	told   [lossKinds]atomic.Bool
}

func (w *warnings) warn(l loss, name string) {
	if !w.told[l].Swap(true) {
		w.report.Send(progress.Event{
			Kind:    progress.Warning,
			Message: fmt.Sprintf("%q: %s (more of these are not reported)", name, losses[l]),
		})
	}
}
