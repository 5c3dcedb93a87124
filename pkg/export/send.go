package export

import (
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// sendFrom is the size from which a file's pages go into a pipe as they are,
// without a copy. Smaller ones would fill its slots with a few bytes each.
const sendFrom = 64 << 10

// pipe is the write side of one, nil if there is none.
type pipe struct{ conn syscall.RawConn }

// pipeOf returns w as a pipe if it is one.
func pipeOf(w io.Writer) *pipe {
	f, ok := w.(*os.File)
	if !ok {
		return nil
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		return nil
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return nil
	}
	return &pipe{conn}
}

// splice moves up to n bytes of a file from off into the pipe. 0 is the end of the
// file.
func (p *pipe) splice(fd int, off, n int64) (moved int64, err error) {
	waitErr := p.conn.Write(func(out uintptr) bool {
		for {
			moved, err = unix.Splice(fd, &off, int(out), nil, int(n), unix.SPLICE_F_MORE)
			if err != unix.EINTR {
				return err != unix.EAGAIN // then the pipe is full, and in no blocking mode
			}
		}
	})
	if err == nil {
		err = waitErr
	}
	return moved, err
}

// sent is a file to send behind what was collected.
type sent struct {
	fd   int
	name string
	size int64
	off  int64 // where it begins in what fd is
	// lent: fd is not to be closed, and holds more than the file. Otherwise who sends
	// the file closes it.
	lent bool
}

// sends tells whether a file of that size goes to send.
func (o *output) sends(size int64) bool { return o.pipe != nil && size >= sendFrom }

// send adds exactly f.size bytes to the archive, as the file holds them. It takes
// f.fd over, unless that is lent: then it must stay open until close or abort.
func (o *output) send(f sent) error { return o.hand(piece{o.buf, &f}) }

// sendOut sends f on the writing goroutine.
func (o *output) sendOut(w io.Writer, f *sent) error {
	for off := int64(0); off < f.size; {
		n, err := o.pipe.splice(f.fd, f.off+off, min(f.size-off, 1<<30))
		switch {
		case err == unix.EINVAL: // a file system that lends no pages
			n, err = o.copyOut(w, f, off)
			if err != nil {
				return err
			}
		case err == unix.EPIPE:
			// A write says the same in the way that w has for it: a process whose
			// standard output is gone dies of it, silently.
			_, err = w.Write(make([]byte, 1))
			return err
		case err != nil:
			return &EntryError{f.name, "read", err}
		}
		switch {
		case n == 0 && f.lent:
			return &EntryError{f.name, "read", io.ErrUnexpectedEOF}
		case n == 0:
			o.changed(f.name)
			return writeZeros(w, f.size-off)
		}
		off += n
	}
	if f.lent {
		return nil
	}
	if n, _ := pread(f.fd, make([]byte, 1), f.size); n > 0 {
		o.changed(f.name)
	}
	return nil
}

// copyOut writes some of the file from off on.
func (o *output) copyOut(w io.Writer, f *sent, off int64) (int64, error) {
	b := make([]byte, min(f.size-off, bufferSize))
	n, err := pread(f.fd, b, f.off+off)
	if err != nil {
		return 0, &EntryError{f.name, "read", err}
	}
	_, err = w.Write(b[:n])
	return int64(n), err
}

func writeZeros(w io.Writer, n int64) error {
	zeros := make([]byte, min(n, bufferSize))
	for n > 0 {
		m, err := w.Write(zeros[:min(n, int64(len(zeros)))])
		if err != nil {
			return err
		}
		n -= int64(m)
	}
	return nil
}
