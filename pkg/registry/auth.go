package registry

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

const tokenTimeout = time.Minute

// repository is one repository at a registry, and the right to read it.
type repository struct {
	*client
	path string

	mu            sync.Mutex        // held while a token is being fetched: the others want the same
	authorization string            // guarded by mu; a header's value
	realm         string            // guarded by mu; the token server, which stays the same
	credentials   *authn.AuthConfig // guarded by mu; nil until looked up
	lookup        error             // guarded by mu; why credentials could not be read
	asked         bool              // guarded by mu; the registry was asked how to log in
}

// do asks the registry for something below the repository. It answers a
// challenge once; what is still 401 after that is for the caller.
func (r *repository) do(ctx context.Context, method, path string, h http.Header) (*http.Response, error) {
	path = "/v2/" + r.path + path
	used := r.current()
	resp, err := r.ask(ctx, method, path, h, used)
	if err != nil || !r.atHome(resp.Request.URL) {
		return resp, err
	}
	var challenges []challenge
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		challenges = parseChallenges(resp.Header.Values("WWW-Authenticate"))
	case http.StatusForbidden, http.StatusNotFound, http.StatusTooManyRequests:
		// Some registries do not challenge whom they do not know.
		if used != "" {
			return resp, nil
		}
		if challenges, err = r.howToLogIn(ctx); err != nil {
			resp.Body.Close()
			return nil, err
		}
	default:
		return resp, nil
	}
	if len(challenges) == 0 {
		return resp, nil
	}
	ok, err := r.authorize(ctx, challenges, used)
	if err != nil {
		resp.Body.Close()
		return nil, err
	}
	if !ok {
		return resp, nil
	}
	discard(resp)
	return r.ask(ctx, method, path, h, r.current())
}

func (r *repository) current() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.authorization
}

func (r *repository) atHome(u *url.URL) bool {
	return hostPort(u) == hostPort(r.url(r.chosen(), "")) && u.Scheme == r.chosen()
}

// loggedIn reports whether the user has credentials for the registry, as far as
// it was necessary to know. The caller holds r.mu.
func (r *repository) loggedIn() bool {
	return r.credentials != nil && *r.credentials != authn.AuthConfig{}
}

// howToLogIn asks the registry for its challenge, if the user has credentials
// for it that could make a difference. It does so once.
func (r *repository) howToLogIn(ctx context.Context) ([]challenge, error) {
	r.mu.Lock()
	asked := r.asked
	r.asked = true
	r.lookUp(ctx)
	loggedIn := r.loggedIn()
	r.mu.Unlock()
	if asked || !loggedIn {
		return nil, nil
	}
	resp, err := r.ask(ctx, http.MethodGet, "/v2/", nil, "")
	if err != nil {
		return nil, err
	}
	defer discard(resp)
	if resp.StatusCode != http.StatusUnauthorized || !r.atHome(resp.Request.URL) {
		return nil, nil
	}
	return parseChallenges(resp.Header.Values("WWW-Authenticate")), nil
}

// authorize answers a challenge to a request that was sent with used. It
// reports false where there is nothing better to send.
func (r *repository) authorize(ctx context.Context, cs []challenge, used string) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.authorization != used {
		return true, nil // another request was challenged before, and has answered
	}
	r.lookUp(ctx)
	var fresh string
	if c, ok := find(cs, "bearer"); ok {
		var err error
		if fresh, err = r.bearer(ctx, c); err != nil {
			return false, err
		}
	} else if _, ok := find(cs, "basic"); ok {
		fresh = basic(r.credentials)
	}
	if fresh == "" || fresh == used {
		return false, nil
	}
	r.authorization = fresh
	return true, nil
}

func basic(c *authn.AuthConfig) string {
	switch {
	case c.RegistryToken != "":
		return "Bearer " + c.RegistryToken
	case c.Username != "" && c.Password != "":
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.Username+":"+c.Password))
	case c.Auth != "":
		return "Basic " + c.Auth
	}
	return ""
}

// bearer fetches a token (distribution's token and OAuth2 flows, which package
// transport speaks). The caller holds r.mu.
func (r *repository) bearer(ctx context.Context, c challenge) (string, error) {
	if r.credentials.RegistryToken != "" {
		return "Bearer " + r.credentials.RegistryToken, nil
	}
	realm, err := url.Parse(c.params["realm"])
	if err != nil || c.params["realm"] == "" {
		return "", fmt.Errorf("%s: challenge names no token server", r.domain)
	}
	if err := r.guard.admitRealm(r.url(r.chosen(), "/"), realm); err != nil {
		return "", fmt.Errorf("%s: token server: %w", r.domain, err)
	}
	if r.realm != "" && r.realm != c.params["realm"] {
		return "", fmt.Errorf("%s: token server: %w", r.domain, &RefusedError{Target: origin(realm), Reason: "another one than before"})
	}
	r.realm = c.params["realm"]

	// Package transport checks the realm once more, by a stricter rule that knows
	// no registry on this machine with its token server beside it: to it, the
	// token server is the registry.
	reg, err := name.NewRegistry(realm.Host)
	if err != nil {
		return "", fmt.Errorf("%s: token server: %w", r.domain, err)
	}
	scopes := []string{"repository:" + r.path + ":pull"}
	if s := c.params["scope"]; s != "" && s != scopes[0] {
		scopes = slices.Insert(scopes, 0, s) // some servers look at the first alone
	}
	ctx, cancel := context.WithTimeoutCause(ctx, tokenTimeout, errSlowToken)
	defer cancel()
	tok, err := transport.Exchange(ctx, reg, authn.FromConfig(*r.credentials), &tokenTransport{r.client, realm}, scopes,
		&transport.Challenge{Scheme: "Bearer", Parameters: c.params, Insecure: realm.Scheme == "http"})
	if err != nil {
		return "", r.tokenError(ctx, realm, err)
	}
	if tok.RefreshToken != "" && r.loggedIn() {
		r.credentials.IdentityToken = tok.RefreshToken
	}
	if tok.AccessToken != "" {
		return "Bearer " + tok.AccessToken, nil
	}
	return "Bearer " + tok.Token, nil
}

var (
	errSlowToken = errors.New("the token server does not answer")
	errNoToken   = errors.New("the token server's answer holds no token")
)

// tokenError keeps of an error what may be shown: the answer of a token server
// can hold secrets.
func (r *repository) tokenError(ctx context.Context, realm *url.URL, err error) error {
	var status *transport.Error
	var request *url.Error
	switch {
	case errors.As(err, &status):
		e := StatusError{Registry: r.domain, Repository: r.path, Object: "token", Host: printable(realm.Host), Status: status.StatusCode}
		if len(status.Errors) > 0 {
			e.Code, e.Message = printable(string(status.Errors[0].Code)), printable(status.Errors[0].Message)
		}
		return r.classify(e, nil)
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", origin(realm), context.Cause(ctx))
	case errors.As(err, &request):
		return fmt.Errorf("%s: %w", origin(realm), request.Err)
	}
	return fmt.Errorf("%s: %w", origin(realm), errNoToken)
}

// tokenTransport carries the requests of package transport to the token server.
type tokenTransport struct {
	client *client
	realm  *url.URL
}

func (t *tokenTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if hostPort(req.URL) != hostPort(t.realm) || req.URL.Scheme != t.realm.Scheme {
		if err := t.client.guard.admitURL(t.realm, req.URL); err != nil {
			return nil, err
		}
		if req.Method != http.MethodGet {
			return nil, &RefusedError{Target: origin(req.URL), Reason: "the token server redirects a refresh token"}
		}
		req = req.Clone(req.Context())
		req.Header.Del("Authorization")
	}
	return t.client.roundTrip(req)
}
