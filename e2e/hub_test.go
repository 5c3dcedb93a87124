package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// hub stands for Docker Hub: peel reaches it under the real names, through a
// proxy, finds a certificate for them, and must get a token first. Behind it is
// the tests' own registry.
type hub struct {
	env []string // by which a command is led here

	mu     sync.Mutex
	tokens int // given out; guarded by mu
}

const (
	hubRegistry = "index.docker.io" // the name by which the registry library knows it
	hubAuth     = "auth.docker.io"
	hubToken    = "a-token-for-reading"
)

// newHub puts its certificate into dir, which the commands must be able to read.
func newHub(t *testing.T, registry, dir string) *hub {
	t.Helper()
	h := &hub{}
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: registry})
	forward.ErrorLog = log.New(io.Discard, "", 0) // clients may go away
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Host == hubAuth && r.URL.Path == "/token":
			h.mu.Lock()
			h.tokens++
			h.mu.Unlock()
			io.WriteString(w, `{"token":"`+hubToken+`","expires_in":300}`)
		case r.Host != hubRegistry:
			http.NotFound(w, r)
		case r.Header.Get("Authorization") != "Bearer "+hubToken:
			w.Header().Set("WWW-Authenticate", `Bearer realm="https://`+hubAuth+`/token",service="registry.docker.io",scope="repository:library/nginx:pull"`)
			w.WriteHeader(http.StatusUnauthorized)
		default:
			r.Header.Del("Authorization")
			forward.ServeHTTP(w, r)
		}
	}))
	certificate, err := hubCertificate()
	if err != nil {
		t.Fatal(err)
	}
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := filepath.Join(dir, "hub.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]})
	if err := os.WriteFile(ca, block, 0o644); err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(tunnel(server.Listener.Addr().String()))
	t.Cleanup(proxy.Close)
	h.env = []string{"HTTPS_PROXY=" + proxy.URL, "SSL_CERT_FILE=" + ca}
	return h
}

// tunnel is an HTTP proxy that leads the hub's names to addr.
func tunnel(addr string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != hubRegistry+":443" && r.Host != hubAuth+":443" {
			http.Error(w, "only to the hub", http.StatusForbidden)
			return
		}
		there, err := net.Dial("tcp", addr)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer there.Close()
		here, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer here.Close()
		io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
		go func() {
			io.Copy(there, here)
			there.(*net.TCPConn).CloseWrite()
		}()
		io.Copy(here, there)
	}
}

func hubCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the hub of a test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{hubRegistry, hubAuth}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
