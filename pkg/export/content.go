package export

import (
	"golang.org/x/sys/unix"
)

const (
	// sparseFrom is how many bytes of holes make a file worth being stored without
	// them: readers that do not know sparse files then meet them only where a
	// plain entry would have been a burden anyway.
	sparseFrom = 1 << 20
	// maxExtents bounds the map of a sparse file: archive/tar takes none beyond
	// 1 MiB. A file with more is stored plain, unless that would never end.
	maxExtents = 16 << 10
	maxPlain   = 1 << 40
)

// regular writes a regular file. It closes handle.
func (w *walker) regular(h *header, st *unix.Statx_t, handle int) error {
	h.typ, h.size = typeReg, int64(st.Size)
	if done, err := w.linked(h, st, handle); done || err != nil {
		unix.Close(handle)
		return err
	}
	fd, err := w.readable(handle)
	unix.Close(handle)
	if err != nil {
		return w.fault("open", err)
	}
	defer func() {
		if fd >= 0 {
			unix.Close(fd)
		}
	}()
	if err := w.attributes(h, opened(fd)); err != nil {
		return err
	}
	if h.typ != typeReg {
		h.size = 0
		return w.header(h)
	}
	if h.size-int64(st.Blocks)*512 >= sparseFrom {
		if h.sparse, err = extents(fd, h.size); err != nil {
			return w.fault("seek", err)
		}
	}
	if err := w.header(h); err != nil {
		return err
	}
	if h.sparse == nil && w.out.sends(h.size) {
		file := sent{fd: fd, name: w.name(), size: h.size}
		fd = -1
		if err := w.out.send(file); err != nil {
			return err
		}
		return w.out.zeros(padding(h.size))
	}
	if h.sparse == nil {
		return w.data(fd, extent{0, h.size}, true)
	}
	stored := int64(0)
	for _, x := range h.sparse {
		if err := w.data(fd, x, false); err != nil {
			return err
		}
		stored += x.size
	}
	return w.out.zeros(padding(stored))
}

// readable opens a regular file for reading without leaving a trace in its access
// time, if the caller may ask for that: the owner and CAP_FOWNER may.
func (w *walker) readable(handle int) (int, error) {
	fd, err := w.reopen(handle, unix.O_RDONLY|unix.O_NOATIME|unix.O_NONBLOCK)
	if err == unix.EPERM {
		fd, err = w.reopen(handle, unix.O_RDONLY|unix.O_NONBLOCK)
	}
	return fd, err
}

// data writes exactly x.size bytes: those of the file that lie there, zeros for
// those that are no more. With whole it also fills up the last block, and x is
// all of the file, which is told from one that has grown.
func (w *walker) data(fd int, x extent, whole bool) error {
	for x.size > 0 {
		b, err := w.out.room(x.size + 1)
		if err != nil {
			return err
		}
		if !whole {
			b = b[:min(int64(len(b)), x.size)]
		}
		n, err := pread(fd, b, x.off)
		if err != nil {
			return w.fault("read", err)
		}
		if n == 0 {
			w.warn(lostChange, w.name())
			break
		}
		if int64(n) > x.size {
			w.warn(lostChange, w.name())
			n = int(x.size)
		}
		w.out.filled(n)
		x.off += int64(n)
		x.size -= int64(n)
	}
	if whole {
		x.size += padding(x.off + x.size)
	}
	return w.out.zeros(x.size)
}

// extents finds the regions of a file of that size that hold data. Nil means that
// it is better stored plain.
func extents(fd int, size int64) ([]extent, error) {
	list := []extent{}
	var stored int64
	for off := int64(0); off < size; {
		from, err := unix.Seek(fd, off, unix.SEEK_DATA)
		if err == unix.ENXIO { // only a hole is left
			break
		}
		if err == unix.EINVAL { // this file system doesn't tell
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if from >= size {
			break
		}
		to, err := unix.Seek(fd, from, unix.SEEK_HOLE)
		if err == unix.ENXIO { // cut off meanwhile
			to = size
		} else if err != nil {
			return nil, err
		}
		to = min(to, size)
		if to <= from { // it changes under our eyes
			break
		}
		if list = append(list, extent{from, to - from}); len(list) > maxExtents {
			if size > maxPlain {
				return nil, &LimitError{"extents of a file too large to be stored with its holes", int64(len(list)), maxExtents}
			}
			return nil, nil
		}
		stored += to - from
		off = to
	}
	if size-stored < sparseFrom {
		return nil, nil
	}
	return closed(list, size), nil
}

// closed has the last extent end the file, as an empty one if need be: some readers
// take the file's size from it.
func closed(list []extent, size int64) []extent {
	if n := len(list); n == 0 || list[n-1].off+list[n-1].size < size {
		list = append(list, extent{size, 0})
	}
	return list
}
