package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/pkg/progress"
	"peel/pkg/store"
)

// transfer is one layer's way into the store.
type transfer struct {
	*fetch
	desc    ocispec.Descriptor
	in      *store.Ingest
	whole   bool  // ranges cannot be had, or not be trusted
	resumed bool  // bytes of several answers were put together
	told    int64 // bytes that the last event spoke of
}

func (t *transfer) run(ctx context.Context) (err error) {
	if t.in, err = t.store.Ingest(ctx, t.desc); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.in.Close()) }()
	t.resumed = t.in.Offset() > 0
	mark, failures := t.in.Offset(), 0
	for t.in.Offset() < t.desc.Size {
		err := t.attempt(ctx)
		if err == nil {
			break
		}
		if t.in.Offset() >= mark+newStart {
			mark, failures = t.in.Offset(), 0
		}
		if failures++; failures == triesToFetch {
			return err
		}
		d, again := t.repo.again(ctx, err, failures)
		if !again {
			return err
		}
		t.retrying(t.desc, t.in.Offset(), err)
		if err := pause(ctx, d); err != nil {
			return err
		}
	}
	return t.in.Commit()
}

// attempt asks the registry for what is missing. It asks the registry and not
// the host that had the blob the last time, whose signed URL may have expired.
func (t *transfer) attempt(ctx context.Context) error {
	h := http.Header{}
	if t.whole && t.in.Offset() > 0 {
		if err := t.startOver(); err != nil {
			return err
		}
	}
	off := t.in.Offset()
	if off > 0 {
		t.resumed = true
		h.Set("Range", "bytes="+strconv.FormatInt(off, 10)+"-")
	}
	resp, err := t.repo.do(ctx, http.MethodGet, "/blobs/"+string(t.desc.Digest), h)
	if err != nil {
		return fmt.Errorf("blob %s: %w", t.desc.Digest, err)
	}
	defer resp.Body.Close()
	if err := t.admit(resp, off); err != nil {
		return err
	}
	return t.copy(resp)
}

// admit decides whether resp continues the blob at off, or begins it.
func (t *transfer) admit(resp *http.Response, off int64) error {
	var length int64 // of what comes
	switch resp.StatusCode {
	case http.StatusOK:
		length = t.desc.Size
		if off > 0 {
			if err := t.startOver(); err != nil {
				return err
			}
		}
	case http.StatusPartialContent:
		start, end, total, ok := contentRange(resp.Header.Get("Content-Range"))
		if off == 0 || !ok || start != off || end >= t.desc.Size {
			if t.whole {
				return fmt.Errorf("blob %s: %s sends a part where all was asked for", t.desc.Digest, origin(resp.Request.URL))
			}
			t.whole = true
			return &brokenError{fmt.Errorf("blob %s: %s sends another range than asked for", t.desc.Digest, origin(resp.Request.URL))}
		}
		if total >= 0 && total != t.desc.Size {
			return &store.VerifyError{Want: t.desc, GotSize: total}
		}
		length = end - start + 1
	case http.StatusRequestedRangeNotSatisfiable:
		if off > 0 {
			t.whole = true
			return &brokenError{t.repo.statusError(resp, t.object())}
		}
		fallthrough
	default:
		err := t.repo.statusError(resp, t.object())
		if !t.repo.atHome(resp.Request.URL) && resp.StatusCode < 500 {
			return &brokenError{err} // an expired URL; the registry has a fresh one
		}
		return err
	}
	if resp.ContentLength >= 0 && resp.ContentLength != length {
		return &store.VerifyError{Want: t.desc, GotSize: t.desc.Size - length + resp.ContentLength}
	}
	return nil
}

func (t *transfer) startOver() error {
	t.resumed = false
	return t.in.Reset()
}

func (t *transfer) object() string { return "blob " + string(t.desc.Digest) }

// contentRange reads "bytes start-end/total"; total is -1 where it says "*".
func contentRange(s string) (start, end, total int64, ok bool) {
	s, ok1 := strings.CutPrefix(s, "bytes ")
	span, size, ok2 := strings.Cut(s, "/")
	from, to, ok3 := strings.Cut(span, "-")
	start, err1 := strconv.ParseInt(from, 10, 64)
	end, err2 := strconv.ParseInt(to, 10, 64)
	total, err3 := int64(-1), error(nil)
	if size != "*" {
		total, err3 = strconv.ParseInt(size, 10, 64)
	}
	ok = ok1 && ok2 && ok3 && err1 == nil && err2 == nil && err3 == nil && start >= 0 && start <= end
	return start, end, total, ok
}

// copy takes the body into the store, to its end or until the blob is complete.
func (t *transfer) copy(resp *http.Response) error {
	bufp := t.puller.bufs.Get().(*[]byte)
	defer t.puller.bufs.Put(bufp)
	for t.in.Offset() < t.desc.Size {
		buf := *bufp
		if left := t.desc.Size - t.in.Offset(); left < int64(len(buf)) {
			buf = buf[:left]
		}
		n, readErr := io.ReadAtLeast(resp.Body, buf, min(minRead, len(buf)))
		if _, err := t.in.Write(buf[:n]); err != nil {
			return err
		}
		t.report()
		if readErr != nil {
			if errors.Is(readErr, io.EOF) {
				readErr = io.ErrUnexpectedEOF
			}
			return &brokenError{fmt.Errorf("blob %s: %s: %w", t.desc.Digest, origin(resp.Request.URL), readErr)}
		}
	}
	// The end must be here too, and reading it frees the connection for others.
	var more [1]byte
	if n, _ := io.ReadFull(resp.Body, more[:]); n > 0 {
		return errors.Join(&store.VerifyError{Want: t.desc, GotSize: t.desc.Size + 1}, t.in.Reset())
	}
	return nil
}

func (t *transfer) report() {
	now := t.in.Offset()
	if now < t.told {
		t.told = 0 // it has started over
	}
	if now-t.told >= progressStep || t.told == 0 && now > 0 {
		t.told = now
		t.send(progress.Downloading, t.desc, now)
	}
}
