package registry

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/opencontainers/go-digest"
)

// Names that docker's rules for references speak of. The registry behind
// dockerHub is served by another host, which package name knows.
const (
	dockerHub       = "docker.io"
	dockerHubLegacy = "index.docker.io"
	official        = "library/"
	defaultTag      = "latest"
	maxPath         = 255
	maxTag          = 128
)

// Reference names an image at a registry. The zero Reference names nothing:
// they are made by ParseReference.
type Reference struct {
	domain string
	path   string
	tag    string
	digest digest.Digest
}

// ReferenceError reports a string that names no image.
type ReferenceError struct {
	Input  string
	Reason string
	// Path: the input is spelled like a file's path, which no reference is.
	Path bool
}

func (e *ReferenceError) Error() string { return fmt.Sprintf("reference %q: %s", e.Input, e.Reason) }

// ParseReference reads a reference as docker does:
//
//	nginx                          docker.io/library/nginx:latest
//	me/app:v1                      docker.io/me/app:v1
//	localhost:5000/app             localhost:5000/app:latest
//	ghcr.io/me/app@sha256:...      that manifest or index, whatever its tags
//	nginx:1.27@sha256:...          the same; the tag is only said along
//
// The first component is a registry if it has a dot, a colon or an upper-case
// letter in it, or is "localhost". Everything else is a *ReferenceError.
func ParseReference(s string) (Reference, error) {
	fail := func(reason string) (Reference, error) {
		return Reference{}, &ReferenceError{Input: s, Reason: reason}
	}
	switch {
	case s == "":
		return fail("is empty")
	case spelledAsPath(s):
		return Reference{}, &ReferenceError{Input: s, Reason: "is a path, not an image reference", Path: true}
	case strings.Contains(s, "://"):
		return fail("is a URL; an image reference has no scheme")
	case isImageID(s):
		return fail("is an image ID; images are known by name here")
	}

	rest, dgst, hasDigest := strings.Cut(s, "@")
	domain, rest := splitDomain(rest)
	path, tag, hasTag := strings.Cut(rest, ":")
	if domain == dockerHub && !strings.Contains(path, "/") {
		path = official + path
	}
	switch {
	case !validDomain(domain):
		return fail("has no valid registry name before the first slash")
	case path != strings.ToLower(path):
		return fail("the repository name must be lower case")
	case !validPath(path):
		return fail("the repository name is not valid")
	case len(path) > maxPath:
		return fail(fmt.Sprintf("the repository name has more than %d characters", maxPath))
	case hasTag && !validTag(tag):
		return fail("the tag is not valid")
	case hasDigest && !strings.HasPrefix(dgst, "sha256:"):
		return fail("the digest is not a sha256 one")
	case hasDigest && digest.Digest(dgst).Validate() != nil:
		return fail("the digest is not valid: want sha256: and 64 lower-case hexadecimal digits")
	}
	if !hasTag && !hasDigest {
		tag = defaultTag
	}
	r := Reference{domain: domain, path: path, tag: tag, digest: digest.Digest(dgst)}
	// What follows builds URLs from the registry's name, by the same parser.
	if _, err := name.NewRegistry(domain); err != nil {
		return fail("has no valid registry name before the first slash")
	}
	return r, nil
}

// spelledAsPath: users mistype the arguments of commands that take both. A
// reference can neither begin with these nor end with a slash.
func spelledAsPath(s string) bool {
	if s == "." || s == ".." || strings.HasSuffix(s, "/") {
		return true
	}
	for _, p := range []string{"/", "./", "../", "~"} {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

func isImageID(s string) bool { return len(s) == 64 && all(s, isLowerHex) }

func splitDomain(s string) (domain, rest string) {
	first, rest, ok := strings.Cut(s, "/")
	switch {
	case !ok:
		return dockerHub, s
	case first == dockerHubLegacy:
		return dockerHub, rest
	case first == "localhost", strings.ContainsAny(first, ".:"), first != strings.ToLower(first):
		return first, rest
	}
	return dockerHub, s
}

// validDomain: a host name or an IP address, an IPv6 one in brackets, and
// perhaps a port.
func validDomain(s string) bool {
	host, port, hasPort := s, "", false
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return false
		}
		addr, err := netip.ParseAddr(s[1:end])
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return false
		}
		host, port = "", s[end+1:]
		if port != "" {
			if port[0] != ':' {
				return false
			}
			port, hasPort = port[1:], true
		}
	} else {
		host, port, hasPort = strings.Cut(s, ":")
		for label := range strings.SplitSeq(host, ".") {
			if label == "" || label[0] == '-' || label[len(label)-1] == '-' ||
				!all(label, func(c byte) bool { return isAlnum(c) || c == '-' }) {
				return false
			}
		}
	}
	return !hasPort || port != "" && all(port, isDigit)
}

// validPath: components of lower-case letters and digits, joined within by one
// dot, one or two underscores, or any number of hyphens.
func validPath(s string) bool {
	for c := range strings.SplitSeq(s, "/") {
		if c == "" || !isLowerAlnum(c[0]) || !isLowerAlnum(c[len(c)-1]) {
			return false
		}
		for i := 0; i < len(c); {
			if isLowerAlnum(c[i]) {
				i++
				continue
			}
			start := i
			for !isLowerAlnum(c[i]) { // ends: the last byte is one
				i++
			}
			switch sep := c[start:i]; {
			case sep == ".", sep == "_", sep == "__", strings.Trim(sep, "-") == "":
			default:
				return false
			}
		}
	}
	return true
}

func validTag(s string) bool {
	return s != "" && len(s) <= maxTag && s[0] != '.' && s[0] != '-' &&
		all(s, func(c byte) bool { return isAlnum(c) || c == '_' || c == '.' || c == '-' })
}

func all(s string, ok func(byte) bool) bool {
	for i := range len(s) {
		if !ok(s[i]) {
			return false
		}
	}
	return true
}

func isDigit(c byte) bool      { return '0' <= c && c <= '9' }
func isLowerHex(c byte) bool   { return isDigit(c) || 'a' <= c && c <= 'f' }
func isLowerAlnum(c byte) bool { return isDigit(c) || 'a' <= c && c <= 'z' }
func isAlnum(c byte) bool      { return isLowerAlnum(c) || 'A' <= c && c <= 'Z' }

// Domain is the registry as users know it: "docker.io", "localhost:5000".
func (r Reference) Domain() string { return r.domain }

// Path is the repository at its registry: "library/nginx".
func (r Reference) Path() string { return r.path }

// Tag is empty where a digest alone was given.
func (r Reference) Tag() string { return r.tag }

// Digest is empty where the reference has none; else it decides what is pulled.
func (r Reference) Digest() digest.Digest { return r.digest }

// Name is the repository with its registry: "docker.io/library/nginx".
func (r Reference) Name() string { return r.domain + "/" + r.path }

// String is the reference in full: "docker.io/library/nginx:latest".
func (r Reference) String() string { return r.Name() + r.suffix() }

// Familiar is the shortest spelling of the same reference: "nginx:latest".
func (r Reference) Familiar() string { return r.FamiliarName() + r.suffix() }

// FamiliarName is Familiar without tag and digest: "nginx".
func (r Reference) FamiliarName() string {
	if r.domain != dockerHub {
		return r.Name()
	}
	short, ok := strings.CutPrefix(r.path, official)
	if !ok || strings.Contains(short, "/") || isImageID(short) {
		short = r.path
	}
	// docker.io/v1.2/app must not become v1.2/app, which is at another registry.
	if domain, rest := splitDomain(short); domain != dockerHub || rest != short {
		return r.Name()
	}
	return short
}

func (r Reference) suffix() string {
	var s string
	if r.tag != "" {
		s = ":" + r.tag
	}
	if r.digest != "" {
		s += "@" + string(r.digest)
	}
	return s
}

// identifier is what the registry is asked for.
func (r Reference) identifier() string {
	if r.digest != "" {
		return string(r.digest)
	}
	return r.tag
}
