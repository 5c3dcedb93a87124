package registry

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"syscall"
	"time"
)

const (
	triesToResolve = 3
	triesToFetch   = 6 // in a row, without getting any further
)

// brokenError marks a transfer that may go better another time.
type brokenError struct{ err error }

func (e *brokenError) Error() string { return e.err.Error() }
func (e *brokenError) Unwrap() error { return e.err }

// retry tries again what fails in a way that may pass.
func (r *repository) retry(ctx context.Context, try func() error) error {
	for n := 1; ; n++ {
		err := try()
		if err == nil || n == triesToResolve {
			return err
		}
		d, ok := r.again(ctx, err, n)
		if !ok {
			return err
		}
		if err := pause(ctx, d); err != nil {
			return err
		}
	}
}

// again says whether to try again after the n-th failure, and when.
func (r *repository) again(ctx context.Context, err error, n int) (time.Duration, bool) {
	backoff := r.puller.wait.backoff << (n - 1)
	backoff += rand.N(backoff/4 + 1) // so that many clients do not come back at once
	var broken *brokenError
	var limit *RateLimitError
	var status *StatusError
	switch {
	case ctx.Err() != nil:
		return 0, false
	case errors.As(err, &broken):
		return backoff, true
	case errors.As(err, &limit):
		switch {
		case limit.RetryAfter > r.puller.wait.limit, limit.RetryAfter == 0 && limit.Quota:
			return 0, false
		case limit.RetryAfter > 0:
			return limit.RetryAfter, true
		}
		return backoff, n < triesToResolve
	case errors.As(err, &status):
		switch status.Status {
		case http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway,
			http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return backoff, true
		}
		return 0, false
	}
	return 0, false
}

// passing tells failures of a network from those of what is reached by it.
// contact says that the host has been reached before.
func passing(err error, contact bool) bool {
	var dns *net.DNSError
	var netErr net.Error
	switch {
	case errors.As(err, &dns):
		return !dns.IsNotFound
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return contact
	case errors.As(err, &netErr) && netErr.Timeout():
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// pause waits, unless ctx ends before.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
