package registry

import (
	"errors"
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"
)

const (
	hex64 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	dgst  = "@sha256:" + hex64
)

func TestParseReference(t *testing.T) {
	for in, want := range map[string]struct{ full, familiar, path string }{
		"nginx":                            {"docker.io/library/nginx:latest", "nginx:latest", "library/nginx"},
		"nginx:1.27":                       {"docker.io/library/nginx:1.27", "nginx:1.27", "library/nginx"},
		"library/nginx":                    {"docker.io/library/nginx:latest", "nginx:latest", "library/nginx"},
		"docker.io/nginx":                  {"docker.io/library/nginx:latest", "nginx:latest", "library/nginx"},
		"index.docker.io/nginx":            {"docker.io/library/nginx:latest", "nginx:latest", "library/nginx"},
		"me/app":                           {"docker.io/me/app:latest", "me/app:latest", "me/app"},
		"nginx" + dgst:                     {"docker.io/library/nginx" + dgst, "nginx" + dgst, "library/nginx"},
		"nginx:1" + dgst:                   {"docker.io/library/nginx:1" + dgst, "nginx:1" + dgst, "library/nginx"},
		"localhost/app":                    {"localhost/app:latest", "localhost/app:latest", "app"},
		"localhost:5000/app:v1":            {"localhost:5000/app:v1", "localhost:5000/app:v1", "app"},
		"127.0.0.1:5000/a/b/c":             {"127.0.0.1:5000/a/b/c:latest", "127.0.0.1:5000/a/b/c:latest", "a/b/c"},
		"[::1]:5000/app":                   {"[::1]:5000/app:latest", "[::1]:5000/app:latest", "app"},
		"GHCR/app":                         {"GHCR/app:latest", "GHCR/app:latest", "app"},
		"ghcr.io/me/a__b.c---d":            {"ghcr.io/me/a__b.c---d:latest", "ghcr.io/me/a__b.c---d:latest", "me/a__b.c---d"},
		"localhost:5000":                   {"docker.io/library/localhost:5000", "localhost:5000", "library/localhost"},
		"docker.io/v1.2/app":               {"docker.io/v1.2/app:latest", "docker.io/v1.2/app:latest", "v1.2/app"},
		"docker.io/library/" + hex64:       {"docker.io/library/" + hex64 + ":latest", "library/" + hex64 + ":latest", "library/" + hex64},
		"registry.example:443/app:UP_per-": {"registry.example:443/app:UP_per-", "registry.example:443/app:UP_per-", "app"},
	} {
		t.Run(in, func(t *testing.T) {
			r, err := ParseReference(in)
			if err != nil {
				t.Fatal(err)
			}
			if r.String() != want.full || r.Familiar() != want.familiar || r.Path() != want.path {
				t.Fatalf("got %s, familiar %s, path %s", r, r.Familiar(), r.Path())
			}
		})
	}
}

func TestParseReferenceRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"":                              "empty",
		"./nginx":                       "path",
		"../nginx":                      "path",
		"/var/lib/nginx":                "path",
		".":                             "path",
		"..":                            "path",
		"~/nginx":                       "path",
		"nginx/":                        "path",
		"https://ghcr.io/me/app":        "URL",
		"docker://nginx":                "URL",
		hex64:                           "image ID",
		"Nginx":                         "lower case",
		"ghcr.io/Me/app":                "lower case",
		"a//b":                          "not valid",
		"a/../b":                        "not valid",
		"me/-app":                       "not valid",
		"me/a___b":                      "not valid",
		"me/a..b":                       "not valid",
		"me/app\x1b[31m":                "not valid",
		"nginx:":                        "tag",
		"nginx:.x":                      "tag",
		"nginx:a b":                     "tag",
		"nginx:" + hex64 + hex64:        "", // 128 characters are the most
		"nginx:x" + hex64 + hex64:       "tag",
		"nginx@sha256:abc":              "digest",
		"nginx@" + hex64:                "digest",
		"nginx@md5:" + hex64[:32]:       "sha256",
		"nginx" + dgst + dgst:           "digest",
		"nginx@sha256:../../x":          "digest",
		"nginx" + dgst + "f":            "digest",
		"ghcr.io:port/app":              "registry name",
		"-ghcr.io/app":                  "registry name",
		"a_b.io/app":                    "registry name",
		"[::1/app":                      "registry name",
		"[::1%eth0]/app":                "registry name",
		strings.Repeat("a", 256):        "255",
		"nginx" + strings.ToUpper(dgst): "sha256",
	} {
		t.Run(in, func(t *testing.T) {
			_, err := ParseReference(in)
			if want == "" && err == nil {
				return
			}
			var re *ReferenceError
			if !errors.As(err, &re) || !strings.Contains(err.Error(), want) || re.Path != (want == "path") {
				t.Fatalf("error is %v, want one about %q", err, want)
			}
			if strings.Contains(err.Error(), "\x1b") {
				t.Fatal("the error can move the cursor")
			}
		})
	}
}

// Docker's own parser is the judge of what is a reference and of what it means;
// go-containerregistry's, of which host it leads to.
func FuzzParseReference(f *testing.F) {
	for _, s := range []string{
		"nginx", "nginx:1.27", "me/app:v1", "localhost/app", "localhost:5000/app" + dgst, "[::1]:5000/a/b", "GHCR/app",
		"index.docker.io/nginx", "docker.io/nginx:a" + dgst, "./x", "a__b/c--d", "a/b:c:d", "x@y@z", "a.b:1/c", "docker.io/index.docker.io/x",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseReference(s)
		theirs, theirErr := reference.ParseNormalizedNamed(s)
		if err != nil {
			var re *ReferenceError
			if !errors.As(err, &re) {
				t.Fatalf("error of type %T", err)
			}
			// Stricter on purpose: sha256 alone, and brackets hold an IPv6 address.
			// (Docker's reads 0_0.0/0 as a name without any registry, and fails later.)
			if theirErr == nil && reference.Domain(theirs) != "" && !strings.Contains(s, "[") && !strings.Contains(err.Error(), "sha256") {
				t.Fatalf("docker reads %q as %s: %v", s, theirs, err)
			}
			return
		}
		if theirErr != nil {
			t.Fatalf("%q is read as %s, docker says %v", s, r, theirErr)
		}
		if want := reference.TagNameOnly(theirs); r.String() != want.String() || r.Path() != reference.Path(want) || r.Domain() != reference.Domain(want) {
			t.Fatalf("%q is read as %s, docker reads %s", s, r, want)
		}
		for _, spelling := range []string{r.String(), r.Familiar()} {
			if again, err := ParseReference(spelling); err != nil || again != r {
				t.Fatalf("%s of %q is read as %s, %v", spelling, s, again, err)
			}
		}
		ggcr, err := name.ParseReference(r.String())
		if err != nil {
			// It knows registries only by their dots, and keeps upper case for none.
			if strings.ContainsAny(r.Domain(), ".:") {
				t.Fatalf("go-containerregistry refuses %s: %v", r, err)
			}
			return
		}
		if strings.ContainsAny(r.Domain(), ".:") && (ggcr.Context().RepositoryStr() != r.Path() || ggcr.Identifier() != r.identifier()) {
			t.Fatalf("go-containerregistry asks for %s in %s", ggcr.Identifier(), ggcr.Context().RepositoryStr())
		}
	})
}
