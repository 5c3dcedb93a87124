package registry

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

func TestReachOf(t *testing.T) {
	for addr, want := range map[string]reach{
		"8.8.8.8":                public,
		"2001:4860:4860::8888":   public,
		"10.1.2.3":               private,
		"172.16.0.1":             private,
		"192.168.1.1":            private,
		"100.64.0.1":             private,
		"100.100.100.200":        private,
		"fd00:ec2::254":          private,
		"127.0.0.1":              loopback,
		"127.255.0.1":            loopback,
		"::1":                    loopback,
		"::ffff:127.0.0.1":       loopback,
		"::ffff:10.0.0.1":        private,
		"64:ff9b::7f00:1":        loopback,
		"64:ff9b::a9fe:a9fe":     nowhere,
		"64:ff9b::808:808":       public,
		"2002:a00:1::":           private,
		"169.254.169.254":        nowhere,
		"fe80::1%eth0":           nowhere,
		"0.0.0.0":                nowhere,
		"0.1.2.3":                nowhere,
		"::":                     nowhere,
		"224.0.0.1":              nowhere,
		"ff02::1":                nowhere,
		"::ffff:169.254.169.254": nowhere,
	} {
		if got := reachOf(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s is %s, want %s", addr, reachNames[got], reachNames[want])
		}
	}
}

func TestRequestsReachNoFurtherInThanTheRegistry(t *testing.T) {
	for name, c := range map[string]struct {
		home, homeAt string
		addr, at     string
		ok           bool
	}{
		"public to public":               {"r.example:443", "8.8.8.8:443", "cdn.example:443", "1.1.1.1:443", true},
		"public to private":              {"r.example:443", "8.8.8.8:443", "cdn.example:443", "10.0.0.1:443", false},
		"public to loopback":             {"r.example:443", "8.8.8.8:443", "cdn.example:443", "127.0.0.1:443", false},
		"public to metadata":             {"r.example:443", "8.8.8.8:443", "cdn.example:443", "169.254.169.254:80", false},
		"private to private":             {"r.example:443", "10.0.0.1:443", "cdn.example:443", "10.0.0.2:443", true},
		"private to loopback":            {"r.example:443", "10.0.0.1:443", "cdn.example:443", "127.0.0.1:443", false},
		"private to metadata":            {"r.example:443", "10.0.0.1:443", "cdn.example:443", "169.254.169.254:80", false},
		"loopback to another port":       {"localhost:5000", "127.0.0.1:5000", "localhost:5001", "127.0.0.1:5001", true},
		"loopback to metadata":           {"localhost:5000", "127.0.0.1:5000", "x.example:80", "169.254.169.254:80", false},
		"public and private to private":  {"r.example:443", "10.0.0.1:443 8.8.8.8:443", "cdn.example:443", "10.0.0.2:443", false},
		"private and public to private":  {"r.example:443", "8.8.8.8:443 10.0.0.1:443", "cdn.example:443", "10.0.0.2:443", false},
		"never dialled to private":       {"r.example:443", "", "cdn.example:443", "10.0.0.2:443", false},
		"the registry itself, elsewhere": {"r.example:443", "8.8.8.8:443", "R.example:443", "10.0.0.1:443", true},
		"through the user's proxy":       {"r.example:443", "", "proxy:3128", "10.0.0.1:3128", true},
	} {
		t.Run(name, func(t *testing.T) {
			g := &guard{homes: []string{c.home}, proxies: map[string]bool{"proxy:3128": true}}
			for _, at := range strings.Fields(c.homeAt) {
				if err := g.admitAddr(c.home, at); err != nil {
					t.Fatal(err)
				}
			}
			err := g.admitAddr(c.addr, c.at)
			var refused *RefusedError
			if c.ok != (err == nil) || !c.ok && !errors.As(err, &refused) {
				t.Fatalf("error is %v", err)
			}
		})
	}
}

func TestWhereRedirectsMayGo(t *testing.T) {
	for name, c := range map[string]struct {
		from, to string
		ok       bool
	}{
		"https to another host":            {"https://r.example/v2/", "https://cdn.example/x", true},
		"https to http":                    {"https://r.example/v2/", "http://cdn.example/x", false},
		"https to http on the same host":   {"https://r.example/v2/", "http://r.example/x", false},
		"http to http":                     {"http://r.example/v2/", "http://cdn.example/x", true},
		"a file":                           {"https://r.example/v2/", "file:///etc/passwd", false},
		"no host":                          {"https://r.example/v2/", "https:///x", false},
		"credentials in the URL":           {"https://r.example/v2/", "https://me:pw@cdn.example/x", false},
		"public to a private address":      {"https://r.example/v2/", "https://10.0.0.1/x", false},
		"public to a loopback address":     {"https://r.example/v2/", "https://[::1]/x", false},
		"public to localhost":              {"https://r.example/v2/", "https://localhost/x", false},
		"public to a name below localhost": {"https://r.example/v2/", "https://a.LOCALHOST./x", false},
		"public to metadata":               {"https://r.example/v2/", "https://169.254.169.254/latest", false},
		"public to a mapped address":       {"https://r.example/v2/", "https://[::ffff:127.0.0.1]/x", false},
	} {
		t.Run(name, func(t *testing.T) {
			g := &guard{homes: []string{"r.example:443"}}
			err := g.admitURL(mustURL(t, c.from), mustURL(t, c.to))
			var refused *RefusedError
			if c.ok != (err == nil) || !c.ok && !errors.As(err, &refused) {
				t.Fatalf("error is %v", err)
			}
		})
	}
}

func TestWhereCredentialsMayGo(t *testing.T) {
	for name, c := range map[string]struct {
		registry, realm string
		ok              bool
	}{
		"a token server over https":                 {"https://r.example/", "https://auth.example/token", true},
		"the registry itself":                       {"https://r.example/", "https://r.example/token", true},
		"over http":                                 {"https://r.example/", "http://auth.example/token", false},
		"a file":                                    {"https://r.example/", "file:///token", false},
		"metadata":                                  {"https://r.example/", "https://169.254.169.254/token", false},
		"localhost":                                 {"https://r.example/", "https://localhost/token", false},
		"nothing":                                   {"https://r.example/", "", false},
		"a registry in the clear, to itself":        {"http://r.example/", "http://r.example:81/token", true},
		"a registry in the clear, to another":       {"http://r.example/", "http://auth.example/token", false},
		"a local registry, to its neighbour":        {"http://127.0.0.1:5000/", "http://localhost:5001/token", true},
		"a local registry, to the net in the clear": {"http://127.0.0.1:5000/", "http://auth.example/token", false},
		"a local registry, to the net over https":   {"http://127.0.0.1:5000/", "https://auth.example/token", true},
		"a local registry, to metadata":             {"http://127.0.0.1:5000/", "http://169.254.169.254/token", false},
	} {
		t.Run(name, func(t *testing.T) {
			u := mustURL(t, c.registry)
			g := &guard{homes: []string{hostPort(u)}}
			err := g.admitRealm(u, mustURL(t, c.realm))
			var refused *RefusedError
			if c.ok != (err == nil) || !c.ok && !errors.As(err, &refused) {
				t.Fatalf("error is %v", err)
			}
		})
	}
}

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// A public registry redirects to a name that looks public and resolves to this
// machine, where a service listens that only this machine can reach.
func TestNameThatResolvesInsideIsRefusedWhenDialled(t *testing.T) {
	inside := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %s arrives inside", r.Method, r.URL)
	}))
	_, port, err := net.SplitHostPort(inside)
	if err != nil {
		t.Fatal(err)
	}
	g := &guard{homes: []string{"r.example:443"}, known: true, homeAt: public}
	d := net.Dialer{Resolver: &net.Resolver{PreferGo: true, Dial: answerLoopback}}
	_, err = g.dial(t.Context(), d, "tcp", net.JoinHostPort("cdn.example", port))
	var refused *RefusedError
	if !errors.As(err, &refused) {
		t.Fatalf("error is %v, want a RefusedError", err)
	}
	g.homeAt = loopback // the same for a registry on this machine
	c, err := g.dial(t.Context(), d, "tcp", net.JoinHostPort("cdn.example", port))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// answerLoopback is a name server that says 127.0.0.1 to everything.
func answerLoopback(ctx context.Context, network, address string) (net.Conn, error) {
	client, server := net.Pipe()
	go func() {
		defer server.Close()
		for { // over a stream, messages are preceded by their length
			buf := make([]byte, 2)
			if _, err := io.ReadFull(server, buf); err != nil {
				return
			}
			buf = make([]byte, int(buf[0])<<8|int(buf[1]))
			if _, err := io.ReadFull(server, buf); err != nil {
				return
			}
			var m dnsmessage.Message
			if err := m.Unpack(buf); err != nil {
				return
			}
			m.Response, m.Additionals = true, nil
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
					Body:   &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
				}}
			}
			out, err := m.Pack()
			if err != nil {
				return
			}
			if _, err := server.Write(append([]byte{byte(len(out) >> 8), byte(len(out))}, out...)); err != nil {
				return
			}
		}
	}()
	return client, nil
}
