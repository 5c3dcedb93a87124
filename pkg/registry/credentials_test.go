package registry

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"

	"peel/pkg/progress"
)

// Some registries answer 404 or 403 to whom they do not know, and challenge only
// at their root.
func TestHiddenRepositoryIsAskedForAgainWithCredentials(t *testing.T) {
	for _, status := range []int{403, 404, 429} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			s, _, _ := multi()
			s.before = func(w http.ResponseWriter, r *http.Request) bool {
				if user, _, _ := r.BasicAuth(); user == "me" {
					return false
				}
				if r.URL.Path == "/v2/" {
					w.Header().Set("WWW-Authenticate", `Basic realm="shelf"`)
					w.WriteHeader(http.StatusUnauthorized)
				} else {
					w.WriteHeader(status)
				}
				return true
			}
			host := serve(t, s)
			withAuths(t, `{"auths":{"`+host+`":{"auth":"`+basicOf("me")+`"}}}`)
			if _, err := pull(t, hasty(t, Options{}), host+"/app", openStore(t, t.TempDir())); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestRegistryIsAskedOnceHowToLogIn(t *testing.T) {
	s := newShelf()
	host := serve(t, s)
	s.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/v2/" {
			return true // 200: no need to
		}
		return false
	}
	withAuths(t, `{"auths":{"`+host+`":{"auth":"`+basicOf("me")+`"}}}`)
	_, err := pull(t, hasty(t, Options{}), host+"/app", openStore(t, t.TempDir()))
	var missing *NotFoundError
	if !errors.As(err, &missing) || s.count("GET /v2/") != 1 {
		t.Fatalf("after %q: %v", s.requests(), err)
	}
}

func TestDockerHubCredentialsUnderAllTheirNames(t *testing.T) {
	for _, key := range []string{"https://index.docker.io/v1/", "index.docker.io", "docker.io", "https://docker.io", "docker.io/library/nginx"} {
		t.Run(key, func(t *testing.T) {
			withAuths(t, `{"auths":{"`+key+`":{"auth":"`+basicOf("me")+`"}}}`)
			r, err := hasty(t, Options{}).repository(mustParse(t, "nginx"))
			if err != nil {
				t.Fatal(err)
			}
			r.lookUp(t.Context())
			if r.lookup != nil || r.credentials.Username != "me" {
				t.Fatalf("found %+v, %v", r.credentials, r.lookup)
			}
		})
	}
	withAuths(t, `{"auths":{"ghcr.io":{"auth":"`+basicOf("me")+`"}}}`)
	r, err := hasty(t, Options{}).repository(mustParse(t, "nginx"))
	if err != nil {
		t.Fatal(err)
	}
	if r.lookUp(t.Context()); *r.credentials != (authn.AuthConfig{}) {
		t.Fatal("another registry's credentials are used")
	}
}

func TestCredentialHelperIsAsked(t *testing.T) {
	s, _, _ := multi()
	k := withTokens(t, s, "me")
	host := serve(t, s)
	withAuths(t, `{"credHelpers":{"`+host+`":"of-this-test"}}`)
	bin := t.TempDir()
	helper := filepath.Join(bin, "docker-credential-of-this-test")
	writeFile(t, helper, "#!/bin/sh\nread url\nprintf '{\"ServerURL\":\"%s\",\"Username\":\"me\",\"Secret\":\"secret\"}' \"$url\"\n")
	if err := os.Chmod(helper, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	if _, err := pull(t, hasty(t, Options{}), host+"/app", openStore(t, t.TempDir())); err != nil {
		t.Fatal(err)
	}
	if got := k.asked(); len(got) != 1 || !strings.HasSuffix(got[0], "Basic "+basicOf("me")) {
		t.Fatalf("token server is asked %q", got)
	}
}

func TestMissingCredentialHelperKeepsNobodyFromAPublicImage(t *testing.T) {
	withAuths(t, `{"credsStore":"that-is-not-installed"}`)
	s, _, _ := multi()
	withTokens(t, s, "")
	var events recorder
	if _, err := pull(t, hasty(t, Options{Progress: events.add}), serve(t, s)+"/app", openStore(t, t.TempDir())); err != nil {
		t.Fatal(err)
	}
	if ws := events.all(progress.Warning); len(ws) != 1 || !strings.Contains(ws[0].Message, "that-is-not-installed") {
		t.Fatalf("warnings %v", ws)
	}
}
