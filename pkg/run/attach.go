package run

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"peel/pkg/run/internal/monitor"
	"peel/pkg/run/internal/proto"
)

// Attachment is a connection to the streams of a container that runs under a
// monitor.
type Attachment struct {
	conn      *net.UnixConn
	container *Container
	// starter: it was there first, and so the end of its input is the program's.
	starter  bool
	terminal bool
}

// ErrNotAttachable says that the streams of a container are not a monitor's: they
// are those of whoever runs it in the foreground, or its monitor was killed.
var ErrNotAttachable = errors.New("its input and output are with whoever started it")

// ErrMonitorGone says that a container's monitor has ended before the container.
var ErrMonitorGone = errors.New("the container's monitor was killed")

// Attach connects to a container's streams, from now on. ErrNotRunning,
// ErrNotAttachable.
func (c *Container) Attach() (*Attachment, error) {
	s, err := c.Status()
	if err != nil {
		return nil, err
	}
	if s.Phase != Running {
		return nil, ErrNotRunning
	}
	conn, err := monitor.DialHub(c.rt.runDir(c.ID))
	if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotAttachable
	}
	if err != nil {
		return nil, err
	}
	a, err := c.attachment(conn)
	if err == nil {
		err = a.greet()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return a, nil
}

// StartAttached is StartDetached, with a connection to the container's streams
// from their beginning.
func (c *Container) StartAttached() (*Attachment, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "attached"), os.NewFile(uintptr(pair[1]), "attached")
	defer ours.Close()
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, err
	}
	a, err := c.attachment(conn.(*net.UnixConn))
	if err == nil {
		a.starter = true
		err = c.startMonitor(theirs)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return a, nil
}

func (c *Container) attachment(conn *net.UnixConn) (*Attachment, error) {
	spec, err := c.Spec()
	if err != nil {
		return nil, err
	}
	return &Attachment{conn: conn, container: c, terminal: spec.Process.Terminal}, nil
}

func (a *Attachment) greet() error {
	if _, err := a.conn.Write([]byte{proto.AttachHello}); err != nil {
		return err
	}
	answer := make([]byte, 1)
	switch n, err := a.conn.Read(answer); {
	case err != nil:
		return err
	case n != 1 || answer[0] != proto.AttachDone:
		return ErrNotRunning // by now
	}
	return nil
}

// Terminal says whether the program has a terminal.
func (a *Attachment) Terminal() bool { return a.terminal }

// Signal sends a signal to the container's first process.
func (a *Attachment) Signal(sig syscall.Signal) error { return a.container.Kill(sig) }

// Close ends the attachment. The program runs on.
func (a *Attachment) Close() error { return a.conn.Close() }

// Relay connects a console with the program until its run is over, and returns its
// exit code; ErrDetached after the detach keys, which only count with a terminal;
// ErrMonitorGone. The attachment is closed.
func (a *Attachment) Relay(c Console) (code int, err error) {
	defer a.conn.Close()
	if !a.container.OpenStdin {
		c.In = nil
	}
	restore := func() error { return nil }
	if a.terminal {
		if restore, err = c.raw(); err != nil {
			return 0, err
		}
		defer a.followSize(c.Out)()
	} else {
		c.DetachKeys = nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	var input sync.WaitGroup
	var detached bool
	if c.In != nil {
		input.Go(func() {
			err := c.copyInput(ctx, a.input)
			if err == nil && a.terminal {
				_ = a.input([]byte{endOfInput})
			} else if err == nil && a.starter {
				_ = a.send(proto.AttachEOF, nil)
			}
			if detached = errors.Is(err, ErrDetached); detached {
				_ = a.conn.SetReadDeadline(time.Unix(1, 0)) // ends copyOutput
			}
		})
	}
	code, err = a.copyOutput(c)
	cancel()
	input.Wait()
	if detached {
		err = ErrDetached
	}
	return code, errors.Join(err, restore())
}

// copyOutput copies until the end of the run.
func (a *Attachment) copyOutput(c Console) (code int, err error) {
	buf := make([]byte, proto.MaxAttach)
	for {
		n, err := a.conn.Read(buf)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET):
			return 0, ErrMonitorGone
		case err != nil:
			return 0, err
		}
		content := buf[1:n]
		to := c.Out
		switch buf[0] {
		case proto.AttachEnd:
			if len(content) != 4 {
				return 0, ErrMonitorGone
			}
			return int(binary.LittleEndian.Uint32(content)), nil
		case proto.AttachErr:
			to = c.Err
		case proto.AttachOut:
		default:
			return 0, fmt.Errorf("attach: unknown packet %q", buf[0])
		}
		if to == nil {
			continue
		}
		if _, err := to.Write(content); err != nil {
			return 0, err
		}
	}
}

func (a *Attachment) send(kind byte, content []byte) error {
	_, err := a.conn.Write(append([]byte{kind}, content...))
	return err
}

func (a *Attachment) input(b []byte) error { return a.send(proto.AttachInput, b) }

// followSize gives the program's terminal the size of tty. A program only learns
// of a size that differs, and then draws its screen anew: for one who comes to a
// terminal of his own size it is changed there and back.
func (a *Attachment) followSize(tty *os.File) (stop func()) {
	redraw := !a.starter
	return followSize(tty, func(ws *unix.Winsize) {
		if redraw {
			a.resize(ws.Row+1, ws.Col)
			redraw = false
		}
		a.resize(ws.Row, ws.Col)
	})
}

func (a *Attachment) resize(rows, columns uint16) {
	size := binary.LittleEndian.AppendUint16(nil, rows)
	_ = a.send(proto.AttachSize, binary.LittleEndian.AppendUint16(size, columns)) // whoever is gone needs no size
}

// maxStopAnswer is how long a monitor may take to answer: a start is on its way.
const maxStopAnswer = time.Minute

// stopFinally sends a signal to the first process, which is not going to be started
// again by its policy. It says whether the container was between two runs.
// ErrNotRunning.
func (c *Container) stopFinally(sig syscall.Signal) (between bool, err error) {
	if c.Restart.Never() {
		return false, c.signal(sig)
	}
	found, between, err := c.endPolicy()
	if err != nil {
		return false, err
	}
	if err = c.signal(sig); err == nil && !found {
		// Its monitor was just about to listen. By now it does.
		_, _, err = c.endPolicy()
	}
	return between, err
}

// endPolicy has a container not be started again by its policy. found says that
// there is a monitor, and between that it was between two runs: when there is one,
// there is now a process to kill, or none to come.
func (c *Container) endPolicy() (found, between bool, err error) {
	conn, err := monitor.DialHub(c.rt.runDir(c.ID))
	if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
		return false, false, nil // no monitor, no policy
	}
	if err != nil {
		return false, false, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(maxStopAnswer)); err != nil {
		return false, false, err
	}
	if _, err := conn.Write([]byte{proto.AttachStop}); err != nil {
		return false, false, nil // it has just ended
	}
	answer := make([]byte, 2)
	n, err := conn.Read(answer)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return true, false, errMonitorSilent
	case err != nil || n != 2 || answer[0] != proto.AttachDone:
		return false, false, nil
	}
	return true, answer[1] == 1, nil
}
