package registry

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// reach is how far inside the user's own network an address lies.
type reach int

const (
	public reach = iota
	private
	loopback
	nowhere // link-local (where clouds keep their metadata), multicast, unspecified
)

var reachNames = [...]string{public: "public", private: "private", loopback: "loopback", nowhere: "link-local or special"}

func reachOf(a netip.Addr) reach {
	var (
		nat64  = netip.MustParsePrefix("64:ff9b::/96")  // RFC 6052; an IPv4 address lies within
		sixTo4 = netip.MustParsePrefix("2002::/16")     // RFC 3056; the same
		cgnat  = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598; private, but not to netip
		thisV4 = netip.MustParsePrefix("0.0.0.0/8")     // RFC 1122, 3.2.1.3
	)
	a = a.WithZone("").Unmap()
	b := a.As16()
	switch {
	case nat64.Contains(a):
		a = netip.AddrFrom4([4]byte(b[12:16]))
	case sixTo4.Contains(a):
		a = netip.AddrFrom4([4]byte(b[2:6]))
	}
	switch {
	case a.IsLoopback():
		return loopback
	case a.IsPrivate(), cgnat.Contains(a):
		return private
	case a.IsUnspecified(), thisV4.Contains(a), a.IsMulticast(), a.IsLinkLocalUnicast():
		return nowhere
	}
	return public
}

// guard decides where requests may go. A registry's word sends them to other
// hosts: redirects to where blobs are stored, realms of token servers. None of
// these may lie further inside the user's network than the registry itself, or
// the registry could make peel ask services that it cannot reach on its own.
// Names are looked at when they are resolved, so that no name hides an address.
type guard struct {
	homes []string // host:port of the registry, one for each scheme

	mu      sync.Mutex
	known   bool            // guarded by mu; homeAt has been seen
	homeAt  reach           // guarded by mu; the most public address the registry was dialled at
	proxies map[string]bool // guarded by mu; host:port; the user's own choice
}

// dial is a transport's DialContext. addr is a host and a port, not resolved.
func (g *guard) dial(ctx context.Context, d net.Dialer, network, addr string) (net.Conn, error) {
	d.ControlContext = func(_ context.Context, _, resolved string, _ syscall.RawConn) error {
		return g.admitAddr(addr, resolved)
	}
	return d.DialContext(ctx, network, addr)
}

func (g *guard) admitAddr(addr, resolved string) error {
	ap, err := netip.ParseAddrPort(resolved)
	if err != nil {
		return err
	}
	at := reachOf(ap.Addr())
	g.mu.Lock()
	defer g.mu.Unlock()
	if slices.Contains(g.homes, strings.ToLower(addr)) {
		if !g.known || at < g.homeAt {
			g.known, g.homeAt = true, at
		}
		return nil
	}
	if g.proxies[addr] || at == public || at <= g.homeReach() {
		return nil
	}
	return &RefusedError{Target: printable(addr), Reason: "resolves to a " + reachNames[at] + " address, the registry does not"}
}

// homeReach is what is known of the registry's address. Behind a proxy that is
// nothing, unless its name tells. The caller holds g.mu.
func (g *guard) homeReach() reach {
	if g.known {
		return g.homeAt
	}
	host, _, _ := net.SplitHostPort(g.homes[0])
	at, _ := literalReach(host)
	return at
}

// literalReach knows the hosts that need no resolver.
func literalReach(host string) (reach, bool) {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return loopback, true
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return reachOf(a), true
	}
	return public, false
}

// admitURL is asked before a request follows the registry's word from one URL
// to another.
func (g *guard) admitURL(from, to *url.URL) error {
	refuse := func(reason string) error { return &RefusedError{Target: origin(to), Reason: reason} }
	switch {
	case to.Scheme != "https" && to.Scheme != "http":
		return refuse("only http and https are followed")
	case to.Host == "":
		return refuse("the URL has no host")
	case to.User != nil:
		return refuse("the URL has credentials in it")
	case from.Scheme == "https" && to.Scheme == "http":
		return refuse("a redirect from https to http")
	}
	if slices.Contains(g.homes, hostPort(to)) {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if at, ok := literalReach(to.Hostname()); ok && at != public && at > g.homeReach() {
		return refuse("is a " + reachNames[at] + " address, the registry's is not")
	}
	return nil
}

// admitRealm is asked before the user's credentials go to the token server that
// the registry names.
func (g *guard) admitRealm(registry, realm *url.URL) error {
	if err := g.admitURL(registry, realm); err != nil {
		return err
	}
	if realm.Scheme == "https" || realm.Hostname() == registry.Hostname() {
		return nil
	}
	// In the clear credentials go no further than the registry itself, or to its
	// neighbour on this machine.
	home, _ := literalReach(registry.Hostname())
	at, _ := literalReach(realm.Hostname())
	if home == loopback && at == loopback {
		return nil
	}
	return &RefusedError{Target: origin(realm), Reason: "a token server on another host, without https"}
}

// proxy is a transport's Proxy: the environment's, remembered, since the
// guard's rules are not for the proxy's own address.
func (g *guard) proxy(req *http.Request) (*url.URL, error) {
	u, err := http.ProxyFromEnvironment(req)
	if err == nil && u != nil {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.proxies == nil {
			g.proxies = map[string]bool{}
		}
		g.proxies[hostPort(u)] = true
	}
	return u, err
}

// hostPort is the address that a URL is dialled at, in one spelling.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		switch u.Scheme {
		case "http":
			port = "80"
		case "https":
			port = "443"
		case "socks5", "socks5h":
			port = "1080"
		}
	}
	return strings.ToLower(net.JoinHostPort(u.Hostname(), port))
}
