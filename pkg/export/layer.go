package export

import (
	"bytes"
	"errors"

	"golang.org/x/sys/unix"
)

// What a layer says of the layers below it (image-spec layer.md, Whiteouts).
var whiteoutPrefix = []byte(".wh.")

const opaqueWhiteout = ".wh..wh..opq"

// errElsewhere: the overlay was mounted with redirect_dir or metacopy, and so a file
// of the upper directory is not all that there is to it.
var errElsewhere = errors.New("the overlay has moved it without copying it, which a layer cannot say")

// isWhiteout tells what overlayfs has in its upper directory in the place of a
// deleted file (Documentation/filesystems/overlayfs.rst, whiteouts).
func isWhiteout(st *unix.Statx_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev_major == 0 && st.Rdev_minor == 0
}

// rootEntry writes an entry for the root itself, which is open as root.
func (w *walker) rootEntry(root int) error {
	h := header{
		name: []byte("./"),
		typ:  typeDir,
		mode: uint32(w.top.Mode) & 0o7777,
		uid:  w.top.Uid,
		gid:  w.top.Gid,
		sec:  w.top.Mtime.Sec,
		nsec: w.top.Mtime.Nsec,
	}
	if err := w.attributes(&h, opened(root)); err != nil {
		return err
	}
	return w.header(&h)
}

// whiteout writes that the layers below no longer have the entry at hand. Nobody
// keeps its owner, mode and time. Where they are written, too, they just lack it.
func (w *walker) whiteout() error {
	if w.o.Kind != Changes {
		return nil
	}
	base := bytes.LastIndexByte(w.path, '/') + 1
	name := append([]byte(nil), w.path[:base]...)
	return w.header(&header{typ: typeReg, name: append(append(name, whiteoutPrefix...), w.path[base:]...)})
}

// opaque writes that the directory at hand has nothing of what the layers below
// have in it.
func (w *walker) opaque() error {
	if w.o.Kind != Changes {
		return nil
	}
	name := append([]byte(nil), w.path...)
	return w.header(&header{typ: typeReg, name: append(append(name, '/'), opaqueWhiteout...)})
}

// madeForMount tells whether a file at one of the places is empty.
func (w *walker) madeForMount(st *unix.Statx_t, handle int) (bool, error) {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return st.Size == 0, nil
	case unix.S_IFDIR:
	default:
		return false, nil
	}
	fd, err := openat(handle, dot, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return false, w.fault("open", err)
	}
	defer unix.Close(fd)
	name, start := len(w.names), len(w.starts)
	err = w.list(fd)
	empty := len(w.starts) == start
	w.names, w.starts = w.names[:name], w.starts[:start]
	return empty, err
}
