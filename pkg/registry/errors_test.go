package registry

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"peel/pkg/progress"
)

func TestStatusesHaveTypes(t *testing.T) {
	withAuths(t, `{}`)
	const evil = "pay \x1b[31mattention\x1b[0m\u202e\r\n"
	escaped := `pay \x1b[31mattention\x1b[0m\u202e\r\n`
	for name, c := range map[string]struct {
		status int
		header string
		code   string
		check  func(err error) bool
	}{
		"401": {401, "", "UNAUTHORIZED", func(err error) bool {
			var e *UnauthorizedError
			return errors.As(err, &e) && !e.LoggedIn && e.Lookup == nil
		}},
		"403": {403, "", "DENIED", func(err error) bool { var e *UnauthorizedError; return errors.As(err, &e) && e.Status == 403 }},
		"404": {404, "", "NAME_UNKNOWN", func(err error) bool { var e *NotFoundError; return errors.As(err, &e) }},
		"429 with a quota": {429, "RateLimit-Limit: 100;w=21600\nRateLimit-Remaining: 0;w=21600", "TOOMANYREQUESTS", func(err error) bool {
			var e *RateLimitError
			return errors.As(err, &e) && e.Quota && e.Limit == "100;w=21600" && e.RetryAfter == 0 && !e.LoggedIn
		}},
		"429 with a long wait": {429, "Retry-After: 3600", "TOOMANYREQUESTS", func(err error) bool {
			var e *RateLimitError
			return errors.As(err, &e) && !e.Quota && e.RetryAfter.Hours() == 1
		}},
		"418": {418, "", "X", func(err error) bool { var e *StatusError; return errors.As(err, &e) && e.Host != "" }},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf()
			s.before = func(w http.ResponseWriter, r *http.Request) bool {
				for line := range strings.Lines(c.header) {
					k, v, _ := strings.Cut(strings.TrimSpace(line), ": ")
					w.Header().Set(k, v)
				}
				fail(w, c.status, c.code, evil)
				return true
			}
			_, err := hasty(t, Options{}).Resolve(t.Context(), mustParse(t, serve(t, s)+"/app"), openStore(t, t.TempDir()))
			var status *StatusError
			if !c.check(err) || !errors.As(err, &status) || status.Code != c.code || status.Message != escaped {
				t.Fatalf("error is %#v: %v", err, err)
			}
			if got := s.requests(); len(got) != 2 { // one HEAD, one GET that has the words, and no more
				t.Fatalf("requests %q", got)
			}
		})
	}
}

func TestPassingFailuresAreTriedAgain(t *testing.T) {
	for name, failure := range map[string]func(w http.ResponseWriter){
		"503":                    func(w http.ResponseWriter) { w.WriteHeader(503) },
		"500":                    func(w http.ResponseWriter) { w.WriteHeader(500) },
		"429 and a short wait":   func(w http.ResponseWriter) { w.Header().Set("Retry-After", "0"); w.WriteHeader(429) },
		"a connection cut short": func(w http.ResponseWriter) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			s, _, _ := multi()
			seen := map[string]bool{}
			s.before = func(w http.ResponseWriter, r *http.Request) bool {
				s.mu.Lock()
				first := r.Method == http.MethodGet && !seen[r.URL.Path]
				seen[r.URL.Path] = true
				s.mu.Unlock()
				if first {
					failure(w)
				}
				return first
			}
			if _, err := pull(t, hasty(t, Options{}), serve(t, s)+"/app", openStore(t, t.TempDir())); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestWarningHeaderIsToldOnce(t *testing.T) {
	s, _, _ := multi()
	s.before = func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Warning", `299 - "moving soon"`)
		return false
	}
	var events recorder
	if _, err := pull(t, hasty(t, Options{Progress: events.add}), serve(t, s)+"/app", openStore(t, t.TempDir())); err != nil {
		t.Fatal(err)
	}
	if ws := events.all(progress.Warning); len(ws) != 1 || !strings.HasSuffix(ws[0].Message, ": moving soon") {
		t.Fatalf("warnings %v", ws)
	}
}

func TestWhenToTryAgain(t *testing.T) {
	r, err := hasty(t, Options{}).repository(mustParse(t, "localhost:1/app"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		err error
		n   int
		ok  bool
		min time.Duration
	}{
		"a broken transfer":                  {&brokenError{io.ErrUnexpectedEOF}, 1, true, time.Millisecond},
		"the fourth waits longer":            {&brokenError{io.ErrUnexpectedEOF}, 4, true, 8 * time.Millisecond},
		"a limit with a time":                {&RateLimitError{RetryAfter: 7 * time.Second}, 1, true, 7 * time.Second},
		"a quota with a short time":          {&RateLimitError{RetryAfter: 7 * time.Second, Quota: true}, 1, true, 7 * time.Second},
		"a limit with too long a time":       {&RateLimitError{RetryAfter: time.Minute}, 1, false, 0},
		"a quota":                            {&RateLimitError{Quota: true}, 1, false, 0},
		"a limit without a time":             {&RateLimitError{}, 1, true, time.Millisecond},
		"a limit without a time, once more":  {&RateLimitError{}, triesToResolve, false, 0},
		"503":                                {&StatusError{Status: 503}, 1, true, time.Millisecond},
		"501":                                {&StatusError{Status: 501}, 1, false, 0},
		"404":                                {&NotFoundError{StatusError{Status: 404}}, 1, false, 0},
		"a refusal":                          {&RefusedError{}, 1, false, 0},
		"a full disk, which is no network's": {&fs.PathError{Op: "write", Err: syscall.ENOSPC}, 1, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			d, ok := r.again(t.Context(), c.err, c.n)
			if ok != c.ok || d < c.min || ok && d > 2*c.min {
				t.Fatalf("again %v after %v", ok, d)
			}
		})
	}
}

func TestPassingFailures(t *testing.T) {
	for name, c := range map[string]struct {
		err     error
		contact bool
		want    bool
	}{
		"no such host":               {&net.DNSError{IsNotFound: true}, true, false},
		"name server is busy":        {&net.DNSError{IsTemporary: true}, false, true},
		"refused at first":           {&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, false, false},
		"refused after it was there": {&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, true, true},
		"reset":                      {&net.OpError{Op: "read", Err: syscall.ECONNRESET}, false, true},
		"timed out":                  {&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, false, true},
		"end of file":                {io.EOF, false, true},
		"anything else":              {errors.New("malformed HTTP response"), true, false},
	} {
		if got := passing(c.err, c.contact); got != c.want {
			t.Errorf("%s: passing %v", name, got)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Duration{
		"":                              0,
		"120":                           2 * time.Minute,
		"-1":                            0,
		"soon":                          0,
		"99999999999999999999":          0,
		"Wed, 01 Jul 2026 12:00:30 GMT": 30 * time.Second,
		"Wed, 01 Jul 2026 11:00:00 GMT": 0,
	} {
		if got := retryAfter(in, now); got != want {
			t.Errorf("%q is %v, want %v", in, got, want)
		}
	}
}
