package registry

import (
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestSchemes(t *testing.T) {
	for domain, want := range map[string]string{
		"localhost":            "http https",
		"localhost:5000":       "http https",
		"127.0.0.1:5000":       "http https",
		"127.8.9.10":           "http https",
		"[::1]:5000":           "http https",
		"docker.io":            "https",
		"10.0.0.1:5000":        "https",
		"192.168.1.1":          "https",
		"registry.local":       "https",
		"app.localhost:5000":   "https",
		"localhost.evil.com":   "https",
		"127.0.0.1.evil.com":   "https",
		"0.0.0.0:5000":         "https",
		"[fe80::1]:5000":       "https",
		"[::ffff:8.8.8.8]:443": "https",
	} {
		c, err := newClient(New(Options{}), domain)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(c.schemes(), " "); got != want {
			t.Errorf("%s is spoken to in %s, want %s", domain, got, want)
		}
	}
	c, err := newClient(New(Options{Insecure: true}), "registry.local")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(c.schemes(), " "); got != "https http" {
		t.Errorf("an insecure registry is spoken to in %s", got)
	}
}

func TestCertificateIsVerified(t *testing.T) {
	s, _, _ := multi()
	srv := httptest.NewTLSServer(s)
	defer srv.Close()
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	host := strings.TrimPrefix(srv.URL, "https://")
	_, err := pull(t, hasty(t, Options{}), host+"/app", openStore(t, t.TempDir()))
	var tlsErr *TLSError
	if !errors.As(err, &tlsErr) || tlsErr.PlainHTTP {
		t.Fatalf("error is %v, want a TLSError", err)
	}
	if got := s.requests(); len(got) != 0 {
		t.Fatalf("requests %q", got)
	}
	if _, err := pull(t, hasty(t, Options{Insecure: true}), host+"/app", openStore(t, t.TempDir())); err != nil {
		t.Fatal(err)
	}
}

func TestInsecureIsForTheRegistryAlone(t *testing.T) {
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	defer srv.Close()
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	addr := strings.TrimPrefix(srv.URL, "https://")
	for name, c := range map[string]struct {
		server string
		ok     bool
	}{
		"registry.local": {"registry.local", true},
		"auth.local":     {"auth.local", false},
		"no name at all": {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			conf := unverified("registry.local")
			conf.ServerName = c.server
			conn, err := tls.Dial("tcp", addr, conf)
			var bad *tls.CertificateVerificationError
			if c.ok != (err == nil) || !c.ok && !errors.As(err, &bad) {
				t.Fatalf("error is %v", err)
			}
			if err == nil {
				conn.Close()
			}
		})
	}
}

func TestNoFallbackToPlainHTTP(t *testing.T) {
	s, _, _ := multi()
	c, err := newClient(hasty(t, Options{}), serve(t, s))
	if err != nil {
		t.Fatal(err)
	}
	c.choose("https") // as for a registry that is not on this machine
	_, err = c.ask(t.Context(), http.MethodHead, "/v2/app/manifests/latest", nil, "")
	var tlsErr *TLSError
	if !errors.As(err, &tlsErr) || !tlsErr.PlainHTTP {
		t.Fatalf("error is %v, want a TLSError", err)
	}
	if got := s.requests(); len(got) != 0 {
		t.Fatalf("requests %q", got)
	}
}

func TestRedirectsEnd(t *testing.T) {
	s, d := oneLayer(10)
	s.onBlob(d, func(n int, w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, r.URL.Path, http.StatusFound)
		return true
	})
	_, err := pull(t, hasty(t, Options{}), serve(t, s)+"/app", openStore(t, t.TempDir()))
	if err == nil || !strings.Contains(err.Error(), "more than 10 redirects") {
		t.Fatalf("error is %v", err)
	}
}
