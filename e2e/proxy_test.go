package e2e

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// proxy stands between peel and the real registry, keeps a record of what was
// asked, and can hold a blob back in the middle.
type proxy struct {
	addr string

	// held receives once for each transfer that has come to its middle and
	// waits there until the client goes away or the transfer is let go.
	held  chan struct{}
	letGo chan struct{}

	mu      sync.Mutex
	arrived *sync.Cond // on mu: log has grown
	holding bool       // guarded by mu, like all below
	log     []request  // in the order of their arrival
}

type request struct {
	method, path string
	sent         *counter // bytes of the answer's body
}

func (r request) isBlob() bool { return strings.Contains(r.path, "/blobs/") }

// throughProxy returns a proxy before the shared registry and ref as seen
// through it.
func throughProxy(t *testing.T, ref string) (*proxy, string) {
	t.Helper()
	registry, rest, _ := strings.Cut(ref, "/")
	p := &proxy{held: make(chan struct{}, 100), letGo: make(chan struct{})}
	p.arrived = sync.NewCond(&p.mu)
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: registry})
	forward.ModifyResponse = p.pass
	forward.ErrorLog = log.New(io.Discard, "", 0) // clients that go away are the subject
	forward.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	s := httptest.NewServer(forward)
	t.Cleanup(s.Close)
	p.addr = strings.TrimPrefix(s.URL, "http://")
	return p, p.addr + "/" + rest
}

// hold makes the transfer of each blob of 64 KiB or more stop half way, from
// now on.
func (p *proxy) hold(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holding = on
}

// startHeld starts a command and returns when a transfer of it is held. It fails
// the test where the command ends before.
func (p *proxy) startHeld(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.ExtraFiles = []*os.File{w} // the last copy is closed when the command ends
	err = cmd.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_, _ = r.Read(make([]byte, 1))
		close(ended)
	}()
	select {
	case <-p.held:
	case <-ended:
		t.Fatalf("%s ends before a transfer was held: %v\n%s", strings.Join(cmd.Args, " "), cmd.Wait(), cmd.Stderr)
	}
}

// release lets all transfers go that were held, for good.
func (p *proxy) release() {
	p.hold(false)
	close(p.letGo)
}

// requests returns what has been asked since the last call.
func (p *proxy) requests() []request {
	p.mu.Lock()
	defer p.mu.Unlock()
	log := p.log
	p.log = nil
	return log
}

// waitFor waits until the record has n requests of a method.
func (p *proxy) waitFor(method string, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		have := 0
		for _, r := range p.log {
			if r.method == method {
				have++
			}
		}
		if have >= n {
			return
		}
		p.arrived.Wait()
	}
}

func (p *proxy) pass(resp *http.Response) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := request{method: resp.Request.Method, path: resp.Request.URL.Path, sent: &counter{}}
	p.log = append(p.log, r)
	p.arrived.Broadcast()
	body := resp.Body
	var src io.Reader = body
	if p.holding && r.isBlob() && r.method == http.MethodGet && resp.ContentLength >= 64<<10 {
		gone := resp.Request.Context().Done()
		src = io.MultiReader(io.LimitReader(body, resp.ContentLength/2), pause{p.held, p.letGo, gone}, body)
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.TeeReader(src, r.sent), body}
	return nil
}

// pause is an empty reader that takes its time: it tells that it was reached
// and ends when it is let go, or in an error when the client is gone.
type pause struct {
	held        chan<- struct{}
	letGo, gone <-chan struct{}
}

func (p pause) Read([]byte) (int, error) {
	p.held <- struct{}{}
	select {
	case <-p.letGo:
		return 0, io.EOF
	case <-p.gone:
		return 0, io.ErrUnexpectedEOF
	}
}

type counter struct {
	mu sync.Mutex
	n  int64 // guarded by mu
}

func (c *counter) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n += int64(len(p))
	return len(p), nil
}

func (c *counter) bytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// blobGets counts how often each blob was asked for.
func blobGets(log []request) map[string]int {
	n := map[string]int{}
	for _, r := range log {
		if r.isBlob() && r.method == http.MethodGet {
			n[r.path[strings.LastIndex(r.path, "/")+1:]]++
		}
	}
	return n
}

// blobBytes sums what was sent of all blobs.
func blobBytes(log []request) int64 {
	var n int64
	for _, r := range log {
		if r.isBlob() {
			n += r.sent.bytes()
		}
	}
	return n
}
