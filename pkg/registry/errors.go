package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// StatusError is an answer of a registry, or of a host that it sent us to, that
// is not the one asked for. The answers that a user can do something about come
// as *UnauthorizedError, *NotFoundError or *RateLimitError, which wrap it.
type StatusError struct {
	Registry   string // as users know it
	Repository string // path at the registry
	Object     string // "manifest latest", "blob sha256:..."
	Host       string // who answered
	Status     int
	Code       string // of the registry's error document (distribution-spec, Error Codes)
	Message    string // of the same; printable
}

func (e *StatusError) Error() string {
	s := fmt.Sprintf("%s of %s/%s: %s answers %d %s", e.Object, e.Registry, e.Repository, e.Host, e.Status, http.StatusText(e.Status))
	if e.Code != "" {
		s += ": " + e.Code
	}
	if e.Message != "" {
		s += ": " + e.Message
	}
	return s
}

// UnauthorizedError: the registry, or its token server, wants credentials, or
// better ones. Docker Hub answers so for repositories that do not exist.
type UnauthorizedError struct {
	StatusError
	// LoggedIn: credentials for the registry were found, and were not enough.
	LoggedIn bool
	// Lookup is why the user's credentials could not be read, if that was so.
	Lookup error
}

func (e *UnauthorizedError) Unwrap() error { return &e.StatusError }

// NotFoundError: the registry has no such repository, tag, manifest or blob;
// Code says which, NAME_UNKNOWN or MANIFEST_UNKNOWN, where the registry does.
type NotFoundError struct{ StatusError }

func (e *NotFoundError) Unwrap() error { return &e.StatusError }

// RateLimitError: too many requests.
type RateLimitError struct {
	StatusError
	// Quota: the pulls of the user, or of his address, are used up for a while;
	// otherwise requests came too fast.
	Quota bool
	// RetryAfter is when to come back, as far as the registry says it.
	RetryAfter time.Duration
	// Limit is the quota in the registry's words, "100;w=21600": 100 in six hours.
	Limit    string
	LoggedIn bool
}

func (e *RateLimitError) Unwrap() error { return &e.StatusError }

// PlatformError: the image exists, but not for the platform.
type PlatformError struct {
	Reference string
	Want      string
	Have      []string // those that exist, sorted; printable
}

func (e *PlatformError) Error() string {
	if len(e.Have) == 0 {
		return e.Reference + " has no image in it"
	}
	return fmt.Sprintf("%s has no image for %s, only for %s", e.Reference, e.Want, strings.Join(e.Have, ", "))
}

// MediaTypeError: what the reference names is not an image, or its media types
// contradict each other.
type MediaTypeError struct {
	Object string // what was looked at
	Reason string // printable
}

func (e *MediaTypeError) Error() string { return e.Object + ": " + e.Reason }

// ErrSchema1 is wrapped where an image has only a manifest of docker's first
// format, whose layers cannot be verified. Its owner must push it again.
var ErrSchema1 = errors.New("docker image manifest version 2, schema 1, is not supported")

// RefusedError: following the registry's word would have sent a request, or
// credentials, where they must not go.
type RefusedError struct {
	Target string // scheme and host
	Reason string
}

func (e *RefusedError) Error() string { return fmt.Sprintf("refused %s: %s", e.Target, e.Reason) }

// TLSError: no verified TLS connection to the host came about. Options.Insecure
// would do without.
type TLSError struct {
	Host string
	// PlainHTTP: the host answers in plain HTTP; otherwise its certificate could
	// not be verified.
	PlainHTTP bool
	Err       error
}

func (e *TLSError) Error() string { return fmt.Sprintf("%s: %v", e.Host, e.Err) }
func (e *TLSError) Unwrap() error { return e.Err }

// LengthError: a manifest or config larger than any that is accepted.
type LengthError struct {
	Object string
	Max    int64 // bytes
}

func (e *LengthError) Error() string {
	return fmt.Sprintf("%s: more than the %d bytes that are accepted", e.Object, e.Max)
}

const maxErrorBody = 64 << 10

// statusError reads what there is to know from resp, and closes it.
func (r *repository) statusError(resp *http.Response, object string) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	resp.Body.Close()
	e := StatusError{Registry: r.domain, Repository: r.path, Object: object, Host: printable(resp.Request.URL.Host), Status: resp.StatusCode}
	e.Code, e.Message = errorDocument(body, resp.Header.Get("Content-Type"))
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.classify(e, resp.Header)
}

// classify gives an error its type. The caller holds r.mu.
func (r *repository) classify(e StatusError, h http.Header) error {
	loggedIn := r.loggedIn()
	switch e.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return &UnauthorizedError{StatusError: e, LoggedIn: loggedIn, Lookup: r.lookup}
	case http.StatusNotFound:
		return &NotFoundError{e}
	case http.StatusTooManyRequests:
		remaining, _, _ := strings.Cut(h.Get("RateLimit-Remaining"), ";")
		return &RateLimitError{
			StatusError: e,
			Quota:       remaining == "0" || strings.Contains(e.Message, "pull rate limit"),
			RetryAfter:  retryAfter(h.Get("Retry-After"), time.Now()),
			Limit:       printable(h.Get("RateLimit-Limit")),
			LoggedIn:    loggedIn,
		}
	}
	return &e
}

// retryAfter reads either form of the header (RFC 9110, 10.2.3); 0 is none.
func retryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil {
		return max(0, t.Sub(now))
	}
	return 0
}

// errorDocument reads the first error of a registry's JSON document; of other
// bodies, the first line if they are text.
func errorDocument(body []byte, contentType string) (code, message string) {
	var doc struct {
		Errors []struct{ Code, Message string }
		// Token servers use one object, or OAuth's two names.
		Details          string
		Error            string
		ErrorDescription string `json:"error_description"`
	}
	if json.Unmarshal(body, &doc) == nil {
		if len(doc.Errors) > 0 {
			return printable(doc.Errors[0].Code), printable(doc.Errors[0].Message)
		}
		for _, s := range []string{doc.Details, doc.ErrorDescription, doc.Error} {
			if s != "" {
				return "", printable(s)
			}
		}
		return "", ""
	}
	if strings.HasPrefix(contentType, "text/plain") {
		line, _, _ := strings.Cut(strings.TrimSpace(string(body)), "\n")
		return "", printable(line)
	}
	return "", ""
}

const maxText = 500

// printable makes text of remote origin safe to show: what could move a
// terminal's cursor, or reorder a line, is escaped.
func printable(s string) string {
	var b strings.Builder
	for _, c := range s {
		if b.Len() >= maxText {
			b.WriteString("...")
			break
		}
		if unicode.IsPrint(c) {
			b.WriteRune(c)
		} else {
			q := strconv.QuoteRune(c)
			b.WriteString(q[1 : len(q)-1])
		}
	}
	return b.String()
}

// origin is a URL without what may be secret or long: a signed query, a path.
func origin(u *url.URL) string { return printable(u.Scheme + "://" + u.Host) }
