// Package cp copies files between file systems of which one belongs to a stranger:
// a container's, who may change it meanwhile.
//
// # Places
//
// A Place is a path in a file system, given by its root directory. Links are
// followed as a process would whose root that is, so no link of a container leads out
// of it. What was resolved once is held by descriptor: a directory that the
// container swaps for a link afterwards is no longer looked up.
//
//	source ── export.Entry ── tar ── extract ── destination
//
// What is read goes through package export, which opens no device and follows no
// link; what is written is made under a name nobody knows, beneath the held
// directory without following any link, and then renamed. A file that is there
// already is replaced by another, not written to.
//
// # Rules
//
// They are docker's. A file goes to the name that is given, or into a directory
// that has it. A directory goes into a directory, or becomes the name that is
// not there yet; with "/." at its end its content goes into the directory. A name
// that ends with "/" must be that of a directory. A link that is the source is
// copied as a link unless it is to be followed; one that is the destination is
// followed always.
package cp

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"peel/internal/beneath"
	"peel/pkg/export"
	"peel/pkg/progress"
)

// Place is a path in a file system. The root stays the caller's.
type Place struct {
	Root *beneath.Dir
	Path string // from the root, with or without a leading "/"
}

// Options say what a copy keeps. With the zero value it belongs to the caller and
// has no privileges: no set-id bits and no extended attributes, as those of file
// capabilities.
type Options struct {
	// FollowLink copies what the source leads to if it is a link.
	FollowLink bool
	// Form is how the source keeps owners, modes and devices.
	Form export.Form
	// Privileges keeps set-id bits and extended attributes.
	Privileges bool
	// Owner says to whom a copy belongs, by the owner of the original; nil leaves it
	// to the caller.
	Owner func(uid, gid int) (int, int)
	// Devices lets devices be made. They are left out otherwise, with a warning.
	Devices bool
	// Progress hears of what was left out: one Warning for each kind of thing. It is
	// called by several goroutines.
	Progress progress.Func
}

// Copied is how much was copied.
type Copied struct {
	Files int   // of any type
	Bytes int64 // in them
}

var (
	// ErrNoDirectory is a destination whose directory is missing.
	ErrNoDirectory = errors.New("no such directory")
	// ErrIsDirectory is a directory where something else was to be copied to.
	ErrIsDirectory = errors.New("cannot overwrite a directory with something else")
	// ErrNotDirectory is something else where a directory was to be copied to.
	ErrNotDirectory = errors.New("cannot overwrite what is there with a directory")
)

// Copy copies from one place to another. What was copied before an error stays.
func Copy(ctx context.Context, from, to Place, o Options) (Copied, error) {
	src, err := from.source(o.FollowLink)
	if err != nil {
		return Copied{}, err
	}
	defer src.handle.Close()
	dst, err := to.destination(src)
	if err != nil {
		return Copied{}, err
	}
	defer dst.dir.Close()

	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := src.pack(ctx, dst.name, w, o)
		w.CloseWithError(err)
		packed <- err
	}()
	x := &extractor{o: o, open: func(dir string) (*os.File, error) {
		return dst.dir.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	}}
	err = x.extract(r)
	r.CloseWithError(err)
	return x.copied, errors.Join(err, unlessSame(<-packed, err))
}

// unlessSame leaves out an error that only says what the other end has said.
func unlessSame(err, said error) error {
	if said != nil && (errors.Is(err, said) || errors.Is(said, err) || errors.Is(err, io.ErrClosedPipe)) {
		return nil
	}
	return err
}

// Pack writes what is at a place to w as a tar archive, under its own name; of a
// directory given with "/." its content.
func Pack(ctx context.Context, from Place, w io.Writer, o Options) error {
	src, err := from.source(o.FollowLink)
	if err != nil {
		return err
	}
	defer src.handle.Close()
	name := src.base
	if src.content {
		name = ""
	}
	return src.pack(ctx, name, w, o)
}

// Unpack makes what a tar archive has in the directory at a place. Directories in
// it, which the archive does not have itself, may be behind links.
func Unpack(ctx context.Context, r io.Reader, to Place, o Options) (Copied, error) {
	dir, err := to.Root.Follow(rooted(to.Path), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		if errors.Is(err, unix.ENOENT) {
			err = &os.PathError{Op: "open", Path: to.Path, Err: ErrNoDirectory}
		}
		return Copied{}, err
	}
	defer dir.Close()
	x := &extractor{o: o, open: func(name string) (*os.File, error) {
		if name == "." { // held: it stays the same directory
			return reopen(dir)
		}
		return to.Root.Follow(rooted(to.Path)+"/"+name, unix.O_PATH|unix.O_DIRECTORY, 0)
	}}
	err = x.extract(reader(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(p)
	}))
	return x.copied, err
}

type reader func([]byte) (int, error)

func (r reader) Read(p []byte) (int, error) { return r(p) }

// pack writes the source under a name; its content alone if that is empty.
func (s *source) pack(ctx context.Context, name string, w io.Writer, o Options) error {
	eo := export.Options{Form: o.Form, Mounts: true, Progress: o.Progress}
	if name == "" {
		return export.Tree(ctx, s.handle, w, eo)
	}
	return export.Entry(ctx, s.handle, name, w, eo)
}

func reopen(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

func timespec(t time.Time) []unix.Timespec {
	ts := unix.NsecToTimespec(t.UnixNano())
	return []unix.Timespec{ts, ts}
}
