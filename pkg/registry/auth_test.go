package registry

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// tokens is a token server, and the guard of a shelf that wants its tokens.
type tokens struct {
	host string
	mu   sync.Mutex
	n    int      // guarded by mu; number of the last token
	asks []string // guarded by mu; "scope service authorization"
	user string   // wanted by the token server; "" lets anyone in
}

func (k *tokens) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asks = append(k.asks, fmt.Sprintf("%v %s %s", r.URL.Query()["scope"], r.URL.Query().Get("service"), r.Header.Get("Authorization")))
	if user, _, _ := r.BasicAuth(); k.user != user {
		fail(w, http.StatusUnauthorized, "UNAUTHORIZED", "who are you")
		return
	}
	k.n++
	fmt.Fprintf(w, `{"token":"token-%d","expires_in":60}`, k.n)
}

func (k *tokens) asked() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.asks)
}

// expire makes the tokens given so far worthless.
func (k *tokens) expire() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.n++
}

// challenge refuses requests that do not have the newest token.
func (k *tokens) challenge(w http.ResponseWriter, r *http.Request) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.n > 0 && r.Header.Get("Authorization") == fmt.Sprint("Bearer token-", k.n) {
		return false
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+k.host+`/token",service="shelf",scope="repository:app:pull"`)
	fail(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
	return true
}

func withTokens(t *testing.T, s *shelf, user string) *tokens {
	k := &tokens{user: user}
	k.host = serve(t, k)
	s.before = k.challenge
	return k
}

func basicOf(user string) string { return base64.StdEncoding.EncodeToString([]byte(user + ":secret")) }

func TestTokenFlow(t *testing.T) {
	for name, user := range map[string]string{"as nobody": "", "as a user": "me"} {
		t.Run(name, func(t *testing.T) {
			s, _, _ := multi()
			k := withTokens(t, s, user)
			host := serve(t, s)
			want := "[repository:app:pull] shelf "
			if user == "" {
				withAuths(t, `{}`)
			} else {
				withAuths(t, `{"auths":{"`+host+`":{"auth":"`+basicOf(user)+`"}}}`)
				want += "Basic " + basicOf(user)
			}
			if _, err := pull(t, hasty(t, Options{}), host+"/app", openStore(t, t.TempDir())); err != nil {
				t.Fatal(err)
			}
			// One token does for the manifests and all blobs, and one 401 is all it costs.
			if got := k.asked(); !slices.Equal(got, []string{want}) {
				t.Fatalf("token server is asked %q, want %q", got, want)
			}
			if got := s.requests()[:2]; !slices.Equal(got, []string{"HEAD manifests/latest", "HEAD manifests/latest"}) {
				t.Fatalf("requests begin with %q", got)
			}
		})
	}
}

func TestTokenThatExpiresIsRenewedOnce(t *testing.T) {
	withAuths(t, `{}`)
	s := newShelf()
	var layers [][]byte
	for i := range 8 {
		layers = append(layers, noise(uint64(i+1), 1000))
	}
	s.addImage("linux/amd64", layers, "latest")
	k := withTokens(t, s, "")
	p, st := hasty(t, Options{Jobs: 8}), openStore(t, t.TempDir())
	r, err := p.Resolve(t.Context(), mustParse(t, serve(t, s)+"/app"), st)
	if err != nil {
		t.Fatal(err)
	}
	k.expire()
	var all sync.WaitGroup // of the requests with the old token
	all.Add(len(layers))
	s.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") == "Bearer token-1" {
			all.Done()
			all.Wait()
		}
		return k.challenge(w, r)
	}
	if err := p.Fetch(t.Context(), r, st); err != nil {
		t.Fatal(err)
	}
	if got := k.asked(); len(got) != 2 {
		t.Fatalf("%d tokens for 8 layers at once, want a second one: %q", len(got), got)
	}
}

func TestTokenServersSpeakDifferently(t *testing.T) {
	withAuths(t, `{}`)
	for name, c := range map[string]struct{ scope, answer, want string }{
		"access_token instead of token": {"repository:app:pull", `{"access_token":"x"}`, "[repository:app:pull]"},
		"both, and the same":            {"repository:app:pull", `{"access_token":"x","token":"x"}`, "[repository:app:pull]"},
		"a scope of its own":            {"aws", `{"token":"x"}`, "[aws repository:app:pull]"},
		"no scope":                      {"", `{"token":"x"}`, "[repository:app:pull]"},
	} {
		t.Run(name, func(t *testing.T) {
			s, _, _ := multi()
			var asked atomic.Value
			realm := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked.Store(fmt.Sprint(r.URL.Query()["scope"]))
				fmt.Fprint(w, c.answer)
			}))
			s.before = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Header.Get("Authorization") == "Bearer x" {
					return false
				}
				w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+realm+`/token",scope="`+c.scope+`"`)
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}
			if _, err := pull(t, hasty(t, Options{}), serve(t, s)+"/app", openStore(t, t.TempDir())); err != nil {
				t.Fatal(err)
			}
			if asked.Load() != c.want {
				t.Fatalf("asked for %v, want %s", asked.Load(), c.want)
			}
		})
	}
}

func TestRefusedCredentials(t *testing.T) {
	s, _, _ := multi()
	withTokens(t, s, "someone else")
	host := serve(t, s)
	for name, c := range map[string]struct {
		auths    string
		loggedIn bool
	}{
		"none":  {`{}`, false},
		"wrong": {`{"auths":{"` + host + `":{"auth":"` + basicOf("me") + `"}}}`, true},
	} {
		t.Run(name, func(t *testing.T) {
			withAuths(t, c.auths)
			_, err := pull(t, hasty(t, Options{}), host+"/app", openStore(t, t.TempDir()))
			var e *UnauthorizedError
			if !errors.As(err, &e) || e.LoggedIn != c.loggedIn || e.Object != "token" || e.Message != "who are you" {
				t.Fatalf("error is %v", err)
			}
			if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), basicOf("me")) {
				t.Fatal("the error holds the password")
			}
		})
	}
}

func TestBasicFlow(t *testing.T) {
	s, _, _ := multi()
	s.before = func(w http.ResponseWriter, r *http.Request) bool {
		if user, pw, _ := r.BasicAuth(); user == "me" && pw == "secret" {
			return false
		}
		w.Header().Add("WWW-Authenticate", `Negotiate`)
		w.Header().Add("WWW-Authenticate", `Basic realm="shelf"`)
		fail(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
		return true
	}
	host := serve(t, s)
	withAuths(t, `{"auths":{"`+host+`":{"auth":"`+basicOf("me")+`"}}}`)
	if _, err := pull(t, hasty(t, Options{}), host+"/app", openStore(t, t.TempDir())); err != nil {
		t.Fatal(err)
	}
	withAuths(t, `{}`)
	_, err := pull(t, hasty(t, Options{}), host+"/app", openStore(t, t.TempDir()))
	var e *UnauthorizedError
	if !errors.As(err, &e) || e.LoggedIn {
		t.Fatalf("error is %v", err)
	}
}

func TestCredentialsStayWithTheRegistry(t *testing.T) {
	s, d := oneLayer(5000)
	var arrived atomic.Int32
	elsewhere := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived.Add(1)
		if r.Header.Get("Authorization") != "" {
			t.Error("Authorization arrives at another port")
		}
		w.Write(s.blobs[d.Digest.String()])
	}))
	k := &tokens{}
	k.host = serve(t, k)
	s.before = func(w http.ResponseWriter, r *http.Request) bool {
		if k.challenge(w, r) {
			return true
		}
		if strings.HasSuffix(r.URL.Path, d.Digest.String()) {
			http.Redirect(w, r, "http://"+elsewhere+"/x", http.StatusTemporaryRedirect)
			return true
		}
		return false
	}
	withAuths(t, `{}`)
	if _, err := pull(t, hasty(t, Options{}), serve(t, s)+"/app", openStore(t, t.TempDir())); err != nil {
		t.Fatal(err)
	}
	if arrived.Load() != 1 {
		t.Fatalf("%d requests elsewhere", arrived.Load())
	}
}

// A host that a redirect led to challenges us: its realm gets nothing.
func TestChallengeFromElsewhereIsNotAnswered(t *testing.T) {
	s, d := oneLayer(5000)
	thief := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/token") {
			t.Errorf("the thief's token server gets %q", r.Header.Get("Authorization"))
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	s.onBlob(d, func(n int, w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, "http://"+thief+"/x", http.StatusFound)
		return true
	})
	host := serve(t, s)
	withAuths(t, `{"auths":{"`+host+`":{"auth":"`+basicOf("me")+`"}}}`)
	_, err := pull(t, hasty(t, Options{}), host+"/app", openStore(t, t.TempDir()))
	var e *UnauthorizedError
	if !errors.As(err, &e) || e.Host != thief {
		t.Fatalf("error is %v", err)
	}
}

func TestRealmsThatAreRefused(t *testing.T) {
	for name, realm := range map[string]string{
		"metadata":       "http://169.254.169.254/latest/meta-data",
		"the open net":   "http://auth.example/token",
		"a file":         "file:///etc/passwd",
		"none":           "",
		"not a URL":      "http://[",
		"other protocol": "gopher://auth.example/",
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf()
			s.before = func(w http.ResponseWriter, r *http.Request) bool {
				w.Header().Set("WWW-Authenticate", `Bearer realm="`+realm+`"`)
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}
			host := serve(t, s)
			withAuths(t, `{"auths":{"`+host+`":{"auth":"`+basicOf("me")+`"}}}`)
			_, err := pull(t, hasty(t, Options{}), host+"/app", openStore(t, t.TempDir()))
			if err == nil || !strings.Contains(err.Error(), "token server") {
				t.Fatalf("error is %v", err)
			}
		})
	}
}

func TestRealmMayNotChange(t *testing.T) {
	withAuths(t, `{}`)
	s, d := oneLayer(5000)
	k := withTokens(t, s, "")
	other := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { t.Error("the other token server is asked") }))
	s.before = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, d.Digest.String()) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+other+`/token"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		return k.challenge(w, r)
	}
	_, err := pull(t, hasty(t, Options{}), serve(t, s)+"/app", openStore(t, t.TempDir()))
	var refused *RefusedError
	if !errors.As(err, &refused) {
		t.Fatalf("error is %v, want a RefusedError", err)
	}
}

// With an identity token the token server is asked by POST, with the secret in
// the body, which a redirect must not carry along.
func TestIdentityTokenIsNotRedirected(t *testing.T) {
	thief := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { t.Error("a request arrives elsewhere") }))
	var posted atomic.Int32
	realm := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.PostFormValue("refresh_token") == "identity" {
			posted.Add(1)
		}
		http.Redirect(w, r, "http://"+thief+"/token", http.StatusTemporaryRedirect)
	}))
	s := newShelf()
	s.before = func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+realm+`/token"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	host := serve(t, s)
	withAuths(t, `{"auths":{"`+host+`":{"identitytoken":"identity"}}}`)
	_, err := pull(t, hasty(t, Options{}), host+"/app", openStore(t, t.TempDir()))
	if err == nil || posted.Load() != 1 {
		t.Fatalf("posted %d times: %v", posted.Load(), err)
	}
}

func TestTokenServersRedirectCarriesNoSecret(t *testing.T) {
	var got *http.Request
	c := &client{puller: hasty(t, Options{}), guard: &guard{homes: []string{"r.example:443"}}}
	c.via = direct{http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got = r })}
	tr := &tokenTransport{c, mustURL(t, "https://auth.example/token")}
	for _, target := range []string{"https://auth.example/token", "https://other.example/token", "https://auth.example:444/token"} {
		t.Run(target, func(t *testing.T) {
			home := target == "https://auth.example/token"
			for _, method := range []string{http.MethodGet, http.MethodPost} {
				got = nil
				req, err := http.NewRequest(method, target, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Authorization", "Basic x")
				_, err = tr.RoundTrip(req)
				switch {
				case home && (err != nil || got.Header.Get("Authorization") == ""):
					t.Fatalf("%s does not arrive with its secret: %v", method, err)
				case !home && method == http.MethodGet && (err != nil || got.Header.Get("Authorization") != ""):
					t.Fatalf("%s arrives with a secret: %v", method, err)
				case !home && method == http.MethodPost && got != nil:
					t.Fatalf("%s arrives", method)
				}
			}
		})
	}
}

func TestTokenAnswerWithoutTokenIsNotShown(t *testing.T) {
	withAuths(t, `{}`)
	realm := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"refresh_token":"hush"}`) }))
	s := newShelf()
	s.before = func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+realm+`/token"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	_, err := pull(t, hasty(t, Options{}), serve(t, s)+"/app", openStore(t, t.TempDir()))
	if !errors.Is(err, errNoToken) || strings.Contains(err.Error(), "hush") {
		t.Fatalf("error is %v", err)
	}
}
