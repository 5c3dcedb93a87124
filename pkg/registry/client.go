package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
)

const maxRedirects = 10

// client speaks with one registry.
type client struct {
	puller    *Puller
	domain    string        // as users know it
	registry  name.Registry // as it is reached
	guard     *guard
	transport *http.Transport
	via       http.RoundTripper // transport, but in a test

	repositories map[string]*repository // guarded by puller.mu

	mu     sync.Mutex
	scheme string // guarded by mu; empty until the registry has answered
}

func newClient(p *Puller, domain string) (*client, error) {
	reg, err := name.NewRegistry(domain)
	if err != nil {
		return nil, err
	}
	c := &client{puller: p, domain: domain, registry: reg, repositories: map[string]*repository{}}
	c.guard = &guard{}
	for _, s := range c.schemes() {
		c.guard.homes = append(c.guard.homes, hostPort(c.url(s, "")))
	}
	c.transport = p.transport(c.guard)
	c.via = c.transport
	if p.o.Insecure {
		c.transport.TLSClientConfig = unverified(c.url("", "").Hostname())
	}
	return c, nil
}

// unverified accepts any certificate of one host. What that host sends us on to,
// the token server not least, is verified as ever.
func unverified(host string) *tls.Config {
	_, err := netip.ParseAddr(host)
	if err == nil {
		host = "" // TLS does not speak of addresses (RFC 6066, 3)
	}
	return &tls.Config{
		InsecureSkipVerify: true, // VerifyConnection does it
		VerifyConnection: func(cs tls.ConnectionState) error {
			if strings.EqualFold(cs.ServerName, host) {
				return nil
			}
			between := x509.NewCertPool()
			for _, cert := range cs.PeerCertificates[1:] {
				between.AddCert(cert)
			}
			_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: cs.ServerName, Intermediates: between})
			if err != nil {
				return &tls.CertificateVerificationError{UnverifiedCertificates: cs.PeerCertificates, Err: err}
			}
			return nil
		},
	}
}

func (c *client) url(scheme, path string) *url.URL {
	return &url.URL{Scheme: scheme, Host: c.registry.RegistryStr(), Path: path}
}

// schemes that the registry may be spoken to in, the likely one first. Nothing
// but the user's word makes peel speak plain HTTP over a network.
func (c *client) schemes() []string {
	switch {
	case onThisMachine(c.registry.RegistryStr()):
		return []string{"http", "https"}
	case c.puller.o.Insecure:
		return []string{"https", "http"}
	}
	return []string{"https"}
}

func onThisMachine(host string) bool {
	host = (&url.URL{Host: host}).Hostname()
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

func (c *client) chosen() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.scheme
}

func (c *client) choose(scheme string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.scheme = scheme
}

// ask sends a request to the registry, in the scheme that it answers to.
func (c *client) ask(ctx context.Context, method, path string, h http.Header, authorization string) (*http.Response, error) {
	if s := c.chosen(); s != "" {
		return c.send(ctx, method, c.url(s, path), h, authorization)
	}
	schemes := c.schemes()
	resp, err := c.send(ctx, method, c.url(schemes[0], path), h, authorization)
	if len(schemes) > 1 && wrongScheme(schemes[0], resp, err) && ctx.Err() == nil {
		other, otherErr := c.send(ctx, method, c.url(schemes[1], path), h, authorization)
		var tlsErr *TLSError
		if otherErr == nil || errors.As(otherErr, &tlsErr) && !tlsErr.PlainHTTP {
			if resp != nil {
				discard(resp)
			}
			resp, err, schemes = other, otherErr, schemes[1:]
		}
	}
	if err == nil {
		c.choose(schemes[0])
	}
	return resp, err
}

// wrongScheme tells an answer of the other protocol. A TLS server answers a
// plain request with 400 (Go, nginx), with an alert that is no HTTP, or not at all.
func wrongScheme(scheme string, resp *http.Response, err error) bool {
	var tlsErr *TLSError
	var refused *RefusedError
	var netErr net.Error
	var opErr *net.OpError
	switch {
	case err == nil:
		return scheme == "http" && resp.StatusCode == http.StatusBadRequest
	case errors.Is(err, syscall.ECONNREFUSED):
		return true // without a port in the name, the other scheme has another
	case errors.As(err, &tlsErr):
		return tlsErr.PlainHTTP
	case errors.As(err, &refused), errors.As(err, &netErr) && netErr.Timeout():
		return false
	}
	return scheme == "http" && (!errors.As(err, &opErr) || opErr.Op != "dial")
}

// send sends one request and follows redirects, which it does itself since all
// of the care is here: whom the credentials are for, and where a registry may
// send us. The method is GET or HEAD and stays.
func (c *client) send(ctx context.Context, method string, u *url.URL, h http.Header, authorization string) (*http.Response, error) {
	for hop := 0; ; hop++ {
		req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
		if err != nil {
			return nil, err
		}
		req.Header = h.Clone()
		if req.Header == nil {
			req.Header = http.Header{}
		}
		// distribution-spec, Pulling blobs: Authorization stays with the registry.
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		resp, err := c.roundTrip(req)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, origin(u), err)
		}
		to, err := redirectOf(resp)
		if err != nil {
			resp.Body.Close()
			return nil, fmt.Errorf("%s %s: %w", method, origin(u), err)
		}
		if to == nil {
			return resp, nil
		}
		discard(resp)
		if hop == maxRedirects {
			return nil, fmt.Errorf("%s %s: more than %d redirects", method, origin(u), maxRedirects)
		}
		if err := c.guard.admitURL(u, to); err != nil {
			return nil, err
		}
		if hostPort(to) != hostPort(u) || to.Scheme != u.Scheme {
			authorization = "" // for good: a host that we were sent to may send us back
		}
		u = to
	}
}

func (c *client) roundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	req = req.WithContext(ctx)
	req.Header.Set("User-Agent", c.puller.o.UserAgent)
	resp, err := c.via.RoundTrip(req)
	if err != nil {
		cancel(nil)
		return nil, c.plainError(req, err)
	}
	resp.Body = newTimedBody(ctx, cancel, resp.Body, c.puller.wait.stall)
	for _, w := range resp.Header.Values("Warning") {
		// distribution-spec, Warnings: code 299, agent "-", the text quoted.
		if text, ok := strings.CutPrefix(w, `299 - "`); ok {
			c.puller.warn(printable(c.domain + ": " + strings.TrimSuffix(text, `"`)))
		}
	}
	return resp, nil
}

// plainError makes of a transport's error one with facts.
func (c *client) plainError(req *http.Request, err error) error {
	var header tls.RecordHeaderError
	var cert *tls.CertificateVerificationError
	switch {
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &header):
		return &TLSError{Host: printable(req.URL.Host), PlainHTTP: true, Err: errPlainHTTP}
	case errors.As(err, &cert):
		return &TLSError{Host: printable(req.URL.Host), Err: err}
	case !errors.Is(err, context.Canceled) && passing(err, c.chosen() != ""):
		return &brokenError{&transportError{err}}
	}
	return &transportError{err}
}

// transportError is an error of net/http, which may quote what the host has sent.
type transportError struct{ err error }

func (e *transportError) Error() string { return printable(e.err.Error()) }
func (e *transportError) Unwrap() error { return e.err }

var errPlainHTTP = errors.New("answers in plain HTTP, not https")

func redirectOf(resp *http.Response) (*url.URL, error) {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil, nil
	}
	u, err := resp.Location()
	if err != nil {
		return nil, errors.New("redirects to nowhere that can be read")
	}
	return u, nil
}

// timedBody is a body that does not make its reader wait for ever.
type timedBody struct {
	io.ReadCloser
	ctx    context.Context // of the request
	cancel context.CancelCauseFunc
	timer  *time.Timer
	stall  time.Duration
}

var errStalled = errors.New("no bytes arrive any more")

func newTimedBody(ctx context.Context, cancel context.CancelCauseFunc, body io.ReadCloser, stall time.Duration) *timedBody {
	timer := time.AfterFunc(stall, func() { cancel(errStalled) })
	timer.Stop() // it runs during a Read alone, not while its reader is busy
	return &timedBody{ReadCloser: body, ctx: ctx, cancel: cancel, timer: timer, stall: stall}
}

func (b *timedBody) Read(p []byte) (int, error) {
	b.timer.Reset(b.stall)
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	if err != nil && !errors.Is(err, io.EOF) && errors.Is(context.Cause(b.ctx), errStalled) {
		err = errStalled
	}
	return n, err
}

func (b *timedBody) Close() error {
	err := b.ReadCloser.Close()
	b.timer.Stop()
	b.cancel(nil)
	return err
}

// discard closes an answer whose body does not matter, after reading what it
// takes for the connection to be used again.
func discard(resp *http.Response) {
	io.CopyN(io.Discard, resp.Body, 16<<10)
	resp.Body.Close()
}
