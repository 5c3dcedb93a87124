// Package jsonlog keeps what a container prints, in the form of docker's
// json-file driver: one JSON object a line,
//
//	{"log":"hello\n","stream":"stdout","time":"2026-01-02T15:04:05.000000006Z"}
//
// A text without "\n" at its end goes on in the next object of its stream. Two
// files bound the size: when the log is full it becomes log.1, and what was
// log.1 is gone.
package jsonlog

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

// Entry is one object of the log.
type Entry struct {
	Text   string    `json:"log"`
	Stream string    `json:"stream"` // stdout or stderr
	Time   time.Time `json:"time"`
}

// MaxLine is the longest text of one Entry, as in docker.
const MaxLine = 16 << 10

// DefaultMax is the size at which a log becomes log.1, in bytes.
const DefaultMax = 32 << 20

// Writer appends to a log. Its methods may be called concurrently.
type Writer struct {
	name string
	max  int64

	mu   sync.Mutex // guards what follows
	f    *os.File
	size int64
	err  error // the first that could not be written
}

// Create opens the log at name for appending; max is DefaultMax if 0.
func Create(name string, max int64) (*Writer, error) {
	if max == 0 {
		max = DefaultMax
	}
	w := &Writer{name: name, max: max}
	return w, w.open()
}

func (w *Writer) open() error {
	f, err := os.OpenFile(w.name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	w.f, w.size = f, info.Size()
	return nil
}

// Copy logs what r gives until its end, a line at a time, under the name of a
// stream. A full disk does not stop it: the program must not block on a log that
// cannot be kept. That is told by Close.
func (w *Writer) Copy(stream string, r io.Reader) error {
	in := bufio.NewReaderSize(r, MaxLine)
	for {
		line, err := in.ReadSlice('\n')
		if len(line) > 0 {
			w.write(Entry{Text: string(line), Stream: stream, Time: time.Now().UTC()})
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

func (w *Writer) write(e Entry) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if enc.Encode(e) != nil {
		return // strings and a time always encode
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.size > 0 && w.size+int64(b.Len()) > w.max {
		if err := w.rotate(); err != nil && w.err == nil {
			w.err = err
		}
	}
	n, err := w.f.Write(b.Bytes())
	w.size += int64(n)
	if err != nil && w.err == nil {
		w.err = err
	}
}

func (w *Writer) rotate() error {
	if err := os.Rename(w.name, w.name+".1"); err != nil {
		return err
	}
	old := w.f
	if err := w.open(); err != nil {
		return err // on with the old one, under its new name
	}
	return old.Close()
}

// Close closes the log and reports the first failure to write it.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Join(w.err, w.f.Close())
}

// Reader reads a log from its oldest entry, across both files, and can go on
// where it met the end.
type Reader struct {
	name string
	f    *os.File
	in   *bufio.Reader
	part []byte // of a line whose end is not written yet
}

// Open opens the log at name. One that does not exist yet is empty.
func Open(name string) (*Reader, error) {
	r := &Reader{name: name}
	err := r.use(name + ".1")
	if errors.Is(err, os.ErrNotExist) {
		err = nil // Next looks for the log itself
	}
	return r, err
}

func (r *Reader) use(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	if r.f != nil {
		r.f.Close()
	}
	r.f, r.in, r.part = f, bufio.NewReader(f), nil
	return nil
}

// maxEntry bounds a line of the log: a text of MaxLine bytes, each escaped.
const maxEntry = 8*MaxLine + 256

// Next returns the next entry. At the end it returns io.EOF, and may be called
// again when there is more. A line that is no entry is passed over: the last one
// may have been cut by a full disk.
func (r *Reader) Next() (Entry, error) {
	for {
		if r.f == nil {
			if err := r.use(r.name); err != nil {
				return Entry{}, eof(err)
			}
		}
		b, err := r.in.ReadSlice('\n')
		if r.part = append(r.part, b...); len(r.part) > maxEntry {
			r.part = r.part[:maxEntry]
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF):
			moved, err := r.onward()
			if err != nil {
				return Entry{}, err
			}
			if !moved {
				return Entry{}, io.EOF
			}
			continue
		case err != nil:
			return Entry{}, err
		}
		line := r.part
		r.part = r.part[:0]
		var e Entry
		if json.Unmarshal(line, &e) == nil {
			return e, nil
		}
	}
}

func eof(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return io.EOF
	}
	return err
}

// onward goes from the end of one file to the beginning of the next, if there is
// one.
func (r *Reader) onward() (bool, error) {
	mine, err := r.f.Stat()
	if err != nil {
		return false, err
	}
	now, err := os.Stat(r.name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return false, nil // between two steps of a rotation
	case err != nil:
		return false, err
	case os.SameFile(mine, now):
		return false, nil
	}
	// The writer renames before it opens the next: what was added to ours
	// meanwhile is read first.
	if more, err := r.in.Peek(1); err == nil && len(more) > 0 {
		return true, nil
	}
	return true, r.use(r.name)
}

// Close closes the log.
func (r *Reader) Close() error {
	if r.f == nil {
		return nil
	}
	return r.f.Close()
}
