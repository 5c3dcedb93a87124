package cp

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"peel/pkg/progress"
)

// extractor makes files of a tar archive.
type extractor struct {
	o Options
	// open opens a directory by its name in the archive, "." for the top.
	open   func(dir string) (*os.File, error)
	copied Copied

	// parent is the open directory of the last entry, whose name is at.
	parent *os.File
	at     string
	// made are the directories that were made, which get their modes and times when all
	// that is in them is there.
	made   []*tar.Header
	warned map[string]bool
}

func (x *extractor) extract(r io.Reader) error {
	defer func() {
		if x.parent != nil {
			x.parent.Close()
		}
	}()
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if h.Name, err = cleanName(h.Name); err != nil {
			return err
		}
		if h.Name == "." || h.Typeflag == tar.TypeXGlobalHeader {
			continue // the directory was there, and stays as it is; the other is no file
		}
		if err := x.entry(h, in); err != nil {
			return &EntryError{h.Name, err}
		}
	}
	for _, h := range slices.Backward(x.made) {
		if err := x.finish(h); err != nil {
			return &EntryError{h.Name, err}
		}
	}
	return nil
}

// EntryError says what could not be copied.
type EntryError struct {
	Name string // below the destination's directory
	Err  error
}

func (e *EntryError) Error() string { return fmt.Sprintf("%q: %v", e.Name, e.Err) }
func (e *EntryError) Unwrap() error { return e.Err }

var errOutside = errors.New("leads out of the archive")

// cleanName is a name in an archive, relative to its top.
func cleanName(name string) (string, error) {
	if slices.Contains(strings.Split(name, "/"), "..") {
		return "", &EntryError{name, errOutside}
	}
	if name = strings.TrimPrefix(path.Join("/", name), "/"); name == "" {
		return ".", nil
	}
	return name, nil
}

func (x *extractor) entry(h *tar.Header, r io.Reader) error {
	dir, base := path.Split(h.Name)
	parent, err := x.enter(path.Clean(dir))
	if err != nil {
		return err
	}
	in := int(parent.Fd())
	var there unix.Stat_t
	err = unix.Fstatat(in, base, &there, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil && err != unix.ENOENT {
		return err
	}
	isDir := err == nil && there.Mode&unix.S_IFMT == unix.S_IFDIR
	switch {
	case h.Typeflag == tar.TypeDir && isDir:
		return nil
	case h.Typeflag == tar.TypeDir && err == nil:
		return ErrNotDirectory
	case h.Typeflag == tar.TypeDir:
		if err := unix.Mkdirat(in, base, 0o700); err != nil {
			return err
		}
		x.copied.Files++
		x.made = append(x.made, h)
		return nil
	case isDir:
		return ErrIsDirectory
	}
	return x.replace(in, base, h, r)
}

// enter opens a directory, and makes it where it is missing.
func (x *extractor) enter(dir string) (*os.File, error) {
	if x.parent != nil && x.at == dir {
		return x.parent, nil
	}
	f, err := x.open(dir)
	if errors.Is(err, unix.ENOENT) && dir != "." {
		above, aerr := x.enter(path.Dir(dir))
		if aerr != nil {
			return nil, aerr
		}
		if err := x.mkdir(int(above.Fd()), path.Base(dir)); err != nil && err != unix.EEXIST {
			return nil, err
		}
		f, err = x.open(dir)
	}
	if err != nil {
		return nil, err
	}
	if x.parent != nil {
		x.parent.Close()
	}
	x.parent, x.at = f, dir
	return f, nil
}

// mkdir makes a directory that the archive does not have: root's.
func (x *extractor) mkdir(in int, name string) error {
	if err := unix.Mkdirat(in, name, 0o755); err != nil {
		return err
	}
	h := &tar.Header{Name: name}
	if uid, gid, ok := x.owner(h); ok {
		return x.may(unix.Fchownat(in, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW), h)
	}
	return nil
}

// replace makes something that is no directory under a name that nobody knows, and
// gives it its own when it is complete.
func (x *extractor) replace(in int, base string, h *tar.Header, r io.Reader) error {
	tmp := ".peel-cp-" + rand.Text()
	made, err := x.make(in, tmp, h, r)
	if err == nil && made {
		if err = unix.Renameat(in, tmp, in, base); err == nil {
			x.copied.Files++
			if h.Typeflag != tar.TypeLink { // of two names of one file the rename does nothing
				return nil
			}
		}
	}
	if rerr := unix.Unlinkat(in, tmp, 0); rerr != nil && rerr != unix.ENOENT {
		err = errors.Join(err, rerr)
	}
	return err
}

func (x *extractor) make(in int, tmp string, h *tar.Header, r io.Reader) (made bool, err error) {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse: // whose holes the reader fills
		return true, x.file(in, tmp, h, r)
	case tar.TypeLink:
		return true, x.link(in, tmp, h)
	case tar.TypeSymlink:
		err = unix.Symlinkat(h.Linkname, in, tmp)
	case tar.TypeFifo:
		err = unix.Mknodat(in, tmp, unix.S_IFIFO|x.mode(h), 0)
	case tar.TypeChar, tar.TypeBlock:
		if !x.o.Devices {
			x.warn("a device, left out", h)
			return false, nil
		}
		kind := uint32(unix.S_IFCHR)
		if h.Typeflag == tar.TypeBlock {
			kind = unix.S_IFBLK
		}
		err = unix.Mknodat(in, tmp, kind|x.mode(h), int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))))
	default:
		x.warn(fmt.Sprintf("of type %q, left out", h.Typeflag), h)
		return false, nil
	}
	if err != nil {
		return true, err
	}
	// Never by chmod, which follows what somebody else may put in its place.
	if uid, gid, ok := x.owner(h); ok {
		if err := x.may(unix.Fchownat(in, tmp, uid, gid, unix.AT_SYMLINK_NOFOLLOW), h); err != nil {
			return true, err
		}
	}
	return true, unix.UtimesNanoAt(in, tmp, timespec(h.ModTime), unix.AT_SYMLINK_NOFOLLOW)
}

// link gives another name to what the archive had before.
func (x *extractor) link(in int, tmp string, h *tar.Header) error {
	name, err := cleanName(h.Linkname)
	if err != nil {
		return err
	}
	from, err := x.open(path.Dir(name))
	if err != nil {
		return err
	}
	defer from.Close()
	return unix.Linkat(int(from.Fd()), path.Base(name), in, tmp, 0)
}

func (x *extractor) file(in int, tmp string, h *tar.Header, r io.Reader) (err error) {
	fd, err := unix.Openat(in, tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), tmp)
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	if err := x.data(f, h.Size, r); err != nil {
		return err
	}
	return x.attributes(f, h)
}

// data writes a file and leaves holes where whole blocks are zeros: one that is
// nothing but a hole would fill the disk.
func (x *extractor) data(f *os.File, size int64, r io.Reader) error {
	const block = 64 << 10
	var buf, zeros [block]byte
	for off := int64(0); off < size; {
		b := buf[:min(block, size-off)]
		if _, err := io.ReadFull(r, b); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		if !bytes.Equal(b, zeros[:len(b)]) {
			if _, err := f.WriteAt(b, off); err != nil {
				return err
			}
		}
		off += int64(len(b))
	}
	x.copied.Bytes += size
	return f.Truncate(size)
}

// attributes come in the order that the kernel asks for: a change of the owner
// clears set-id bits and capabilities, and every other change sets the time.
func (x *extractor) attributes(f *os.File, h *tar.Header) error {
	fd := int(f.Fd())
	if uid, gid, ok := x.owner(h); ok {
		if err := x.may(unix.Fchown(fd, uid, gid), h); err != nil {
			return err
		}
	}
	if err := unix.Fchmod(fd, x.mode(h)); err != nil {
		return err
	}
	if x.o.Privileges {
		for key, value := range h.PAXRecords {
			name, ok := strings.CutPrefix(key, "SCHILY.xattr.")
			if !ok {
				continue
			}
			err := unix.Fsetxattr(fd, name, []byte(value), 0)
			if err == unix.ENOTSUP || err == unix.EPERM && os.Geteuid() != 0 {
				x.warn("has extended attributes that cannot be kept", h)
			} else if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	ts := timespec(h.ModTime)
	return os.NewSyscallError("utimensat", unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), ts, 0))
}

func (x *extractor) mode(h *tar.Header) uint32 {
	const permissions, privileges = 0o1777, 0o6000
	mode := uint32(h.Mode) & (permissions | privileges)
	if !x.o.Privileges {
		mode &^= privileges
	}
	return mode
}

// owner is to whom the copy is to belong, if not to who has made it.
func (x *extractor) owner(h *tar.Header) (uid, gid int, other bool) {
	if x.o.Owner == nil {
		return 0, 0, false
	}
	uid, gid = x.o.Owner(h.Uid, h.Gid)
	return uid, gid, uid != os.Geteuid() || gid != os.Getegid()
}

// may lets a user go on who cannot give files away, with a warning.
func (x *extractor) may(err error, h *tar.Header) error {
	if err == unix.EPERM && os.Geteuid() != 0 {
		x.warn("belongs to somebody else, whom you cannot give files to", h)
		return nil
	}
	return err
}

// finish gives a directory its attributes. Links in its name are not followed, nor is
// it one by now.
func (x *extractor) finish(h *tar.Header) error {
	dir, base := path.Split(h.Name)
	parent, err := x.enter(path.Clean(dir))
	if err != nil {
		return err
	}
	fd, err := unix.Openat(int(parent.Fd()), base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	defer f.Close()
	return x.attributes(f, h)
}

// warn tells of the first of a kind.
func (x *extractor) warn(what string, h *tar.Header) {
	if x.warned[what] {
		return
	}
	if x.warned == nil {
		x.warned = map[string]bool{}
	}
	x.warned[what] = true
	x.o.Progress.Send(progress.Event{Kind: progress.Warning, Message: fmt.Sprintf("%q: %s (more of these are not reported)", h.Name, what)})
}
