// Package registry brings images from a registry into the store.
//
// A registry (OCI distribution-spec) keeps manifests and blobs by repository.
// A pull is two steps. Resolve turns a reference into one image for one
// platform: a HEAD request says what the tag names now, and what is not in the
// store yet is fetched: the index, the platform's manifest in it, and the
// config. Fetch brings the layers that are missing, several at once, each going
// on where an earlier attempt broke off.
//
//	p := registry.New(registry.Options{})
//	r, err := p.Resolve(ctx, ref, st) // one HEAD if the store is up to date
//	err = p.Fetch(ctx, r, st)
//	err = st.Tag(ctx, r.Image.Name, r.Image)
//
// Pull is both in one, and faster than the one after the other.
//
// The registry is not trusted. Every byte is checked against a digest before it
// has a name in the store. Credentials go to the registry and to the token
// server that it names over https, never along a redirect; requests that it
// causes do not reach further inside the user's network than it lies itself; the
// URLs that a manifest may list for its layers are not used. Text that it
// sends is escaped where it gets into errors and events.
package registry

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/pkg/progress"
)

// Options of a Puller. The zero value is right for most.
type Options struct {
	// Platform to choose from an index; zero is the host's. See ParsePlatform.
	Platform ocispec.Platform
	// Jobs is how many layers are fetched at once; 0 is 4.
	Jobs int
	// Insecure accepts certificates that cannot be verified, and plain HTTP. The
	// latter is accepted without it only from registries on this machine:
	// localhost, 127.0.0.0/8 and ::1.
	Insecure bool
	// Progress is told about the image and each of its layers.
	Progress progress.Func
	// UserAgent names the program to the registry; empty is "peel".
	UserAgent string
}

// Puller fetches images. It may be used by several goroutines at once; its
// connections and tokens are shared among them.
type Puller struct {
	o    Options
	wait timing
	bufs sync.Pool // *[]byte of bufSize

	mu      sync.Mutex
	clients map[string]*client // guarded by mu; by domain
	warned  map[string]bool    // guarded by mu
}

// timing is how patient a Puller is.
type timing struct {
	connect time.Duration // for a connection, and for its TLS handshake
	header  time.Duration // for the first byte of an answer
	stall   time.Duration // for the next byte of a body
	backoff time.Duration // before the second attempt; doubled for each further one
	limit   time.Duration // the longest Retry-After that is waited for
}

func New(o Options) *Puller {
	if o.Jobs <= 0 {
		o.Jobs = 4
	}
	if o.UserAgent == "" {
		o.UserAgent = "peel"
	}
	return &Puller{
		o: o,
		wait: timing{
			connect: 30 * time.Second,
			header:  2 * time.Minute, // a mirror may fetch the blob first
			stall:   30 * time.Second,
			backoff: 300 * time.Millisecond,
			limit:   30 * time.Second,
		},
		bufs:    sync.Pool{New: func() any { b := make([]byte, bufSize); return &b }},
		clients: map[string]*client{},
		warned:  map[string]bool{},
	}
}

// Close closes the connections that are kept for further requests.
func (p *Puller) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.clients {
		c.transport.CloseIdleConnections()
	}
}

// repository returns the way to ref's repository.
func (p *Puller) repository(ref Reference) (*repository, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.clients[ref.domain]
	if c == nil {
		var err error
		if c, err = newClient(p, ref.domain); err != nil {
			return nil, err
		}
		p.clients[ref.domain] = c
	}
	r := c.repositories[ref.path]
	if r == nil {
		r = &repository{client: c, path: ref.path}
		c.repositories[ref.path] = r
	}
	return r, nil
}

// warn sends a warning, the first time that it is given.
func (p *Puller) warn(message string) {
	const most = 32 // kinds of warnings; the registry makes them up
	p.mu.Lock()
	known := p.warned[message] || len(p.warned) >= most
	if !known {
		p.warned[message] = true
	}
	p.mu.Unlock()
	if !known {
		p.o.Progress.Send(progress.Event{Kind: progress.Warning, Message: message})
	}
}

func (p *Puller) transport(g *guard) *http.Transport {
	dialer := net.Dialer{Timeout: p.wait.connect, KeepAlive: 30 * time.Second}
	t := &http.Transport{
		Proxy: g.proxy,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return g.dial(ctx, dialer, network, addr)
		},
		TLSHandshakeTimeout:    p.wait.connect,
		ResponseHeaderTimeout:  p.wait.header,
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConnsPerHost:    p.o.Jobs + 1,
		MaxResponseHeaderBytes: 256 << 10,
		// Layers are packed already, and their bytes are what the digest is of.
		DisableCompression: true,
		// With HTTP/2 all layers would share one connection: one congestion
		// window, and one flow-control buffer that the slowest reader fills.
		Protocols: new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	return t
}
