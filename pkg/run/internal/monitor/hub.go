package monitor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"peel/pkg/run/internal/memory"
	"peel/pkg/run/internal/proto"
)

// Hub is where a program's streams meet those who are attached to it. All of them
// get what it prints, from when they came, and what any of them types is its
// input. One that does not keep up holds the program up, as a terminal would.
type Hub struct {
	// Stop is asked that the container be started no more, and says whether it
	// is between two runs.
	Stop func() (between bool)

	listener *net.UnixListener
	socket   string
	serving  sync.WaitGroup

	mu      sync.Mutex // guards what follows, and what a client holds
	changed *sync.Cond
	clients map[*client]bool
	program *Program // nil between runs
	over    bool     // no run will follow
	// draining: the program has ended, and what it has left is not to be held
	// up.
	draining bool
}

// Program is the program's end.
type Program struct {
	// In is where input goes, nil where there is none to give.
	In     io.WriteCloser
	Resize func(rows, columns uint16)
}

// client is one who is attached.
type client struct {
	conn   *net.UnixConn
	queue  [][]byte
	queued int  // bytes
	gone   bool // nothing more is sent
}

// What may wait for a client that does not keep up, in bytes: while the program
// runs, and after its end, when all that can come is what is left in its pipes.
const (
	maxQueue = 256 << 10
	maxRest  = 1 << 20
)

// maxGreeting is how long one who has connected may take to say what for.
const maxGreeting = 10 * time.Second

// NewHub returns a hub that nobody is attached to.
func NewHub() *Hub {
	h := &Hub{clients: map[*client]bool{}}
	h.changed = sync.NewCond(&h.mu)
	return h
}

// Listen lets others attach, by a socket in dir, until Close.
func (h *Hub) Listen(dir string) error {
	name := filepath.Join(dir, proto.AttachSocket)
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	d, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	h.listener, err = net.ListenUnix("unixpacket", attachAddr(d))
	if err != nil {
		return err
	}
	h.listener.SetUnlinkOnClose(false) // that name is only good while d is open
	h.socket = name
	listener := h.listener
	h.serving.Go(func() {
		for {
			conn, err := listener.AcceptUnix()
			if err != nil {
				return // closed
			}
			h.serving.Go(func() { h.greet(conn) })
		}
	})
	return nil
}

// attachAddr is the socket's address. The name of the directory itself may be
// longer than the 107 bytes of sockaddr_un.
func attachAddr(dir *os.File) *net.UnixAddr {
	return &net.UnixAddr{Net: "unixpacket", Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), proto.AttachSocket)}
}

// DialHub connects to the hub whose socket is in dir. Where nobody listens any
// more the error is unix.ECONNREFUSED or fs.ErrNotExist.
func DialHub(dir string) (*net.UnixConn, error) {
	d, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return net.DialUnix("unixpacket", nil, attachAddr(d))
}

// greet does what a new connection is for.
func (h *Hub) greet(conn *net.UnixConn) {
	buf := make([]byte, proto.MaxAttach)
	_ = conn.SetReadDeadline(time.Now().Add(maxGreeting))
	n, err := conn.Read(buf)
	if err != nil || n == 0 {
		conn.Close()
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	switch buf[0] {
	case proto.AttachStop:
		between := byte(0)
		if h.Stop() {
			between = 1
		}
		_, _ = conn.Write([]byte{proto.AttachDone, between}) // one that is gone needs no answer
		conn.Close()
	case proto.AttachHello:
		h.mu.Lock()
		c := &client{conn: conn}
		if h.program == nil {
			c.gone = true
			h.mu.Unlock()
			_, _ = conn.Write([]byte{proto.AttachRefused})
			conn.Close()
			return
		}
		c.queue = [][]byte{{proto.AttachDone}}
		h.clients[c] = true
		h.mu.Unlock()
		h.serving.Go(func() { h.send(c) })
		h.receive(c, buf)
	default:
		conn.Close()
	}
}

// Attach attaches one before the program begins, so that it misses nothing.
func (h *Hub) Attach(conn *net.UnixConn) {
	c := &client{conn: conn}
	h.mu.Lock()
	h.clients[c] = true
	h.mu.Unlock()
	h.serving.Go(func() { h.send(c) })
	h.serving.Go(func() { h.receive(c, make([]byte, proto.MaxAttach)) })
}

// send sends what is queued for a client. It ends when the client is gone.
func (h *Hub) send(c *client) {
	for {
		h.mu.Lock()
		for len(c.queue) == 0 && !c.gone {
			h.changed.Wait()
		}
		if c.gone {
			h.mu.Unlock()
			return
		}
		packet := c.queue[0]
		if c.queue = c.queue[1:]; len(c.queue) == 0 {
			c.queue = nil
		}
		h.mu.Unlock()
		if _, err := c.conn.Write(packet); err != nil {
			h.drop(c)
			return
		}
		h.mu.Lock()
		c.queued -= len(packet)
		h.changed.Broadcast()
		h.mu.Unlock()
	}
}

// receive takes what a client sends, until it goes away. It is the client that
// closes the connection, also after the end: closed from here, with something
// unread, its last packets would be lost to it.
func (h *Hub) receive(c *client, buf []byte) {
	defer c.conn.Close()
	defer h.drop(c)
	for {
		n, err := c.conn.Read(buf)
		if err != nil || n == 0 {
			return
		}
		p := h.awaitProgram(c)
		if p == nil {
			continue
		}
		switch content := buf[1:n]; buf[0] {
		case proto.AttachInput:
			if p.In != nil {
				_, _ = p.In.Write(content) // one that reads no more is no concern of his
			}
		case proto.AttachEOF:
			if p.In != nil {
				_ = p.In.Close()
			}
		case proto.AttachSize:
			if len(content) == 4 && p.Resize != nil {
				p.Resize(binary.LittleEndian.Uint16(content), binary.LittleEndian.Uint16(content[2:]))
			}
		}
	}
}

// awaitProgram waits for the program that a client is attached to; nil when its
// run is over.
func (h *Hub) awaitProgram(c *client) *Program {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.clients[c] && h.program == nil && !h.over {
		h.changed.Wait()
	}
	if !h.clients[c] {
		return nil
	}
	return h.program
}

// drop forgets a client.
func (h *Hub) drop(c *client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.gone, c.queue = true, nil
	_, was := h.clients[c]
	delete(h.clients, c)
	h.changed.Broadcast()
	if was && len(h.clients) == 0 && h.program != nil {
		h.serving.Go(memory.Shrink) // there may be nothing to do for weeks now
	}
}

// Begin says that a program runs.
func (h *Hub) Begin(p *Program) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.program = p
	h.changed.Broadcast()
}

// Stream returns the writer for one of the program's streams: AttachOut or
// AttachErr. It never fails.
func (h *Hub) Stream(kind byte) io.Writer { return stream{h, kind} }

type stream struct {
	hub  *Hub
	kind byte
}

func (s stream) Write(b []byte) (int, error) {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.clients) == 0 {
		return len(b), nil
	}
	for rest := b; len(rest) > 0; {
		n := min(len(rest), proto.MaxAttach-1)
		packet := append([]byte{s.kind}, rest[:n]...)
		rest = rest[n:]
		for c := range h.clients {
			h.enqueue(c, packet)
		}
	}
	return len(b), nil
}

// enqueue needs mu, and may wait for room.
func (h *Hub) enqueue(c *client, packet []byte) {
	for !c.gone && !h.draining && c.queued+len(packet) > maxQueue {
		h.changed.Wait()
	}
	if c.gone || c.queued+len(packet) > maxRest {
		return
	}
	c.queue, c.queued = append(c.queue, packet), c.queued+len(packet)
	h.changed.Broadcast()
}

// Drain says that the program has ended: nobody holds up what it has left.
func (h *Hub) Drain() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.draining = true
	h.changed.Broadcast()
}

// End ends a run. Those who were attached to it are attached no more; what is
// returned tells them its exit code, when that is known to all others.
func (h *Hub) End() (tell func(code int)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	left := h.clients
	h.clients, h.program, h.draining = map[*client]bool{}, nil, false
	h.changed.Broadcast()
	return func(code int) {
		h.mu.Lock()
		defer h.mu.Unlock()
		packet := binary.LittleEndian.AppendUint32([]byte{proto.AttachEnd}, uint32(code))
		for c := range left {
			if !c.gone {
				c.queue = append(c.queue, packet)
			}
		}
		h.changed.Broadcast()
	}
}

// Close lets nobody attach any more.
func (h *Hub) Close() {
	if h.listener != nil {
		// In this order: what has the name later may be another monitor's.
		_ = os.Remove(h.socket)
		h.listener.Close()
		h.listener = nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
	h.changed.Broadcast()
}

// Wait waits until all who were told the end have gone.
func (h *Hub) Wait() { h.serving.Wait() }
