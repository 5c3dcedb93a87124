package monitor

import (
	"bytes"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"peel/pkg/run/internal/proto"
)

// input collects what is typed.
type input struct {
	got    chan string
	closed chan bool
}

func newInput() input { return input{make(chan string, 10), make(chan bool, 1)} }

func (i input) Write(b []byte) (int, error) { i.got <- string(b); return len(b), nil }
func (i input) Close() error                { i.closed <- true; return nil }

// newHub listens in a directory whose name is longer than a socket's may be.
func newHub(t *testing.T) (h *Hub, dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	h = NewHub()
	if err := h.Listen(dir); err != nil {
		t.Fatal(err)
	}
	return h, dir
}

func dial(t *testing.T, dir string, hello byte) *net.UnixConn {
	t.Helper()
	conn, err := DialHub(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	send(t, conn, string(hello))
	return conn
}

func send(t *testing.T, conn *net.UnixConn, packet string) {
	t.Helper()
	if _, err := conn.Write([]byte(packet)); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	buf := make([]byte, proto.MaxAttach)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestAllWhoAreAttachedGetWhatIsPrintedAndItsEnd(t *testing.T) {
	h, dir := newHub(t)
	in := newInput()
	var rows, columns uint16
	resized := make(chan bool, 1)
	h.Begin(&Program{In: in, Resize: func(r, c uint16) { rows, columns = r, c; resized <- true }})
	one, two := dial(t, dir, proto.AttachHello), dial(t, dir, proto.AttachHello)
	for _, c := range []*net.UnixConn{one, two} {
		if got := receive(t, c); got != "d" {
			t.Fatalf("answer %q", got)
		}
	}
	h.Stream(proto.AttachOut).Write([]byte("out"))
	h.Stream(proto.AttachErr).Write([]byte("err"))
	for _, c := range []*net.UnixConn{one, two} {
		if a, b := receive(t, c), receive(t, c); a != "oout" || b != "xerr" {
			t.Errorf("%q %q", a, b)
		}
	}
	send(t, one, "ityped")
	if got := <-in.got; got != "typed" {
		t.Errorf("typed %q", got)
	}
	send(t, two, "w\x19\x00\x51\x00")
	if <-resized; rows != 25 || columns != 81 {
		t.Errorf("%d rows, %d columns", rows, columns)
	}
	send(t, two, "w\x19") // is none
	send(t, two, "e")
	<-in.closed
	tell := h.End()
	// The next run is not theirs, and their input not its.
	second := newInput()
	h.Begin(&Program{In: second})
	h.Stream(proto.AttachOut).Write([]byte("of the next run"))
	send(t, one, "ilate")
	tell(258)
	for _, c := range []*net.UnixConn{one, two} {
		if got := receive(t, c); got != "q\x02\x01\x00\x00" {
			t.Errorf("the end: %q", got)
		}
		c.Close()
	}
	h.End()(0)
	h.Close()
	h.Wait()
	if len(second.got) > 0 {
		t.Errorf("the next run got %q", <-second.got)
	}
	if _, err := DialHub(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after the end: %v", err)
	}
}

func TestNobodyIsAttachedBetweenTwoRuns(t *testing.T) {
	h, dir := newHub(t)
	stopped := make(chan bool, 1)
	h.Stop = func() bool { stopped <- true; return true }
	if got := receive(t, dial(t, dir, proto.AttachHello)); got != "n" {
		t.Errorf("answer %q", got)
	}
	if got := receive(t, dial(t, dir, proto.AttachStop)); got != "d\x01" {
		t.Errorf("answer to a stop: %q", got)
	}
	<-stopped
	dial(t, dir, '?') // knows no manners
	h.Close()
	h.Wait()
}

// One who does not read holds the program up, but neither its end nor the others.
func TestOneWhoDoesNotReadIsWaitedForUntilTheProgramEnds(t *testing.T) {
	h, dir := newHub(t)
	h.Begin(&Program{})
	slow := dial(t, dir, proto.AttachHello)
	receive(t, slow)
	block := bytes.Repeat([]byte("x"), proto.MaxAttach-1)
	blocked := make(chan int)
	var written int
	go func() {
		for range 100 { // 1.6 MB
			h.Stream(proto.AttachOut).Write(block)
			written++
		}
		close(blocked)
	}()
	for waiting := false; !waiting; {
		h.mu.Lock()
		for c := range h.clients {
			waiting = c.queued+len(block) >= maxQueue
		}
		h.mu.Unlock()
	}
	select {
	case <-blocked:
		t.Error("nobody waited")
	default:
	}
	h.Drain()
	<-blocked
	tell := h.End()
	h.Close()
	tell(7)
	n := 0
	for {
		got := receive(t, slow)
		if got[0] == proto.AttachEnd {
			break
		}
		n += len(got) - 1
	}
	if n < maxRest/2 || n > written*len(block) {
		t.Errorf("%d bytes came", n)
	}
	slow.Close()
	h.Wait()
}

// A monitor that was killed leaves its socket.
func TestASocketThatWasLeftIsNoHub(t *testing.T) {
	dir := t.TempDir()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: filepath.Join(dir, proto.AttachSocket)}); err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	if _, err := DialHub(dir); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("%v", err)
	}
	h := NewHub()
	if err := h.Listen(dir); err != nil {
		t.Fatal(err)
	}
	h.Close()
	h.Wait()
}
