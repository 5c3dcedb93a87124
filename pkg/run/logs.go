package run

import (
	"context"
	"errors"
	"io"
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
	// Follow waits for more until the container's run is over.
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

// logWatch waits for a log to grow or its container's run to end.
type logWatch struct {
	c       *Container
	inotify int
	pidfd   int // -1 once the process has ended
	over    bool
}

func (c *Container) watchLog() (*logWatch, error) {
	w := &logWatch{c: c, pidfd: -1}
	var err error
	if w.inotify, err = unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); err != nil {
		return nil, err
	}
	// The directory, as the log is another file after a rotation.
	if _, err := unix.InotifyAddWatch(w.inotify, filepath.Dir(c.logFile()), unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO); err != nil {
		unix.Close(w.inotify)
		return nil, err
	}
	w.pidfd, _, err = c.pidfd()
	if errors.Is(err, ErrNotRunning) {
		w.over = true
		return w, nil
	}
	if err != nil {
		unix.Close(w.inotify)
		return nil, err
	}
	return w, nil
}

// wait returns when there may be more to read.
func (w *logWatch) wait(ctx context.Context) error {
	fds := []int{w.pidfd, w.inotify}
	ready, err := pollAny(ctx, fds...)
	if err != nil {
		return err
	}
	if ready[0] {
		// The monitor still writes what was in the pipes, and then lets go.
		if err := w.c.waitUnattended(ctx); err != nil {
			return err
		}
		w.over = true
	}
	buf := make([]byte, 4096)
	for {
		if n, err := unix.Read(w.inotify, buf); err != nil || n <= 0 {
			return nil // drained
		}
	}
}

func (w *logWatch) close() {
	unix.Close(w.inotify)
	if w.pidfd >= 0 {
		unix.Close(w.pidfd)
	}
}
