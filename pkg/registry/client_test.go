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

func TestRedirectsThatAreRefused(t *testing.T) {
	s, d := oneLayer(10)
	host := serve(t, s)
	for _, to := range []string{"file:///etc/passwd", "http://me:pw@" + host + "/x", "http://169.254.169.254/latest", "https:///x"} {
		t.Run(to, func(t *testing.T) {
			s.onBlob(d, func(n int, w http.ResponseWriter, r *http.Request) bool {
				w.Header().Set("Location", to)
				w.WriteHeader(http.StatusTemporaryRedirect)
				return true
			})
			_, err := pull(t, hasty(t, Options{}), host+"/app", openStore(t, t.TempDir()))
			var refused *RefusedError
			if !errors.As(err, &refused) || strings.Contains(err.Error(), "dial") {
				t.Fatalf("error is %v, want a RefusedError before anything is dialled", err)
			}
		})
	}
}

func TestRequestsSayWhatTheyWant(t *testing.T) {
	s, _, _ := multi()
	s.before = func(w http.ResponseWriter, r *http.Request) bool {
		if got := r.Header.Get("User-Agent"); got != "peel/1" {
			t.Errorf("User-Agent %q", got)
		}
		if got := r.Header.Values("Accept-Encoding"); len(got) != 0 {
			t.Errorf("Accept-Encoding %q: the digest is of the bytes as they are", got)
		}
		want := ""
		if strings.Contains(r.URL.Path, "/manifests/") {
			want = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, " +
				"application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json"
		}
		if got := strings.Join(r.Header.Values("Accept"), "; "); got != want {
			t.Errorf("%s: Accept %q", r.URL.Path, got)
		}
		return false
	}
	if _, err := pull(t, hasty(t, Options{UserAgent: "peel/1"}), serve(t, s)+"/app", openStore(t, t.TempDir())); err != nil {
		t.Fatal(err)
	}
}
