package run

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"peel/pkg/run/internal/jsonlog"
)

// LogEntry is a line, or a part of a long one, that a container printed.
type LogEntry struct {
	Text   string // with its "\n", if the line ends here
	Stream string // "stdout" or "stderr"
	Time   time.Time
}

// LogOptions say which entries. The zero value is all there are.
type LogOptions struct {
	// Follow waits for more until the container has ended and is not going to be
	// started again.
	Follow bool
	// Tail is how many entries from the end to begin with, if not nil.
	Tail *int
	// Since and Until bound the time, unless zero.
	Since, Until time.Time
}

// Logs calls f with what a detached container has printed, over all its runs,
// oldest first, until f or ctx fails. A container that was never detached has
// printed nothing here.
func (c *Container) Logs(ctx context.Context, o LogOptions, f func(LogEntry) error) error {
	r, err := jsonlog.Open(c.logFile())
	if err != nil {
		return err
	}
	defer r.Close()
	emit := func(e jsonlog.Entry) error {
		if (!o.Since.IsZero() && e.Time.Before(o.Since)) || (!o.Until.IsZero() && e.Time.After(o.Until)) {
			return nil
		}
		return f(LogEntry{e.Text, e.Stream, e.Time})
	}
	if !o.Follow {
		return readLog(r, o.Tail, emit)
	}
	w, err := c.watchLog()
	if err != nil {
		return err
	}
	defer w.close()
	if err := readLog(r, o.Tail, emit); err != nil {
		return err
	}
	for {
		// Looked at before the log is read: what came before the end of the run
		// is then in it.
		over := w.over
		if err := readLog(r, nil, emit); err != nil {
			return err
		}
		if over {
			return nil
		}
		if err := w.wait(ctx); err != nil {
			return err
		}
	}
}

// readLog reads to the end, all entries or the last ones.
func readLog(r *jsonlog.Reader, tail *int, emit func(jsonlog.Entry) error) error {
	var last []jsonlog.Entry // a ring, where a tail is asked for
	n := 0
	for ; ; n++ {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		switch {
		case tail == nil:
			if err := emit(e); err != nil {
				return err
			}
		case *tail <= 0:
		case len(last) < *tail:
			last = append(last, e)
		default:
			last[n%*tail] = e
		}
	}
	for i := range last {
		if err := emit(last[(max(0, n-len(last))+i)%len(last)]); err != nil {
			return err
		}
	}
	return nil
}

// logWatch waits for a log to grow or its writer to end.
type logWatch struct {
	inotify int
	ended   *os.File // can be read when nobody runs the container any more
	over    bool
}

func (c *Container) watchLog() (*logWatch, error) {
	inotify, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	w := &logWatch{inotify: inotify}
	// The directory, as the log is another file after a rotation.
	if _, err = unix.InotifyAddWatch(w.inotify, filepath.Dir(c.logFile()), unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO); err == nil {
		w.ended, err = c.unattendedFile()
	}
	if err != nil {
		unix.Close(w.inotify)
		return nil, err
	}
	return w, nil
}

// unattendedFile returns a pipe that ends when no process waits for the container
// any more: also between two runs one does. See waitUnattended for who waits for
// that.
func (c *Container) unattendedFile() (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	go func() {
		_ = c.waitUnattended(context.Background()) // one that cannot be waited for is over
		w.Close()
	}()
	return r, nil
}

// wait returns when there may be more to read.
func (w *logWatch) wait(ctx context.Context) error {
	ready, err := pollAny(ctx, int(w.ended.Fd()), w.inotify)
	if err != nil {
		return err
	}
	w.over = ready[0]
	buf := make([]byte, 4096)
	for {
		if n, err := unix.Read(w.inotify, buf); err != nil || n <= 0 {
			return nil // drained
		}
	}
}

func (w *logWatch) close() {
	unix.Close(w.inotify)
	w.ended.Close()
}
