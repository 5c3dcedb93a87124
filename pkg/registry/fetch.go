package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"peel/pkg/progress"
	"peel/pkg/store"
)

const (
	bufSize = 256 << 10
	// minRead is what is waited for before bytes go on to the store. A TLS record
	// holds 16 KiB, and a system call for each is felt; more would keep bytes on a
	// slow line from whoever follows the blob.
	minRead = 64 << 10
	// progressStep is how many bytes pass between two events of a layer.
	progressStep = 512 << 10
	// newStart is how far a transfer must get for its failures to be forgotten.
	newStart = 1 << 20
)

// Fetch brings those layers of the image into the store that it lacks. A layer
// that somebody else is fetching is waited for. What has arrived when Fetch
// fails is kept for the next attempt, unless it was wrong.
func (p *Puller) Fetch(ctx context.Context, r *Remote, st *store.Store) error {
	f := &fetch{puller: p, repo: r.repo, store: st}
	return f.layers(ctx, r.Image.Manifest.Layers)
}

// Pull is Resolve and Fetch at once: the layers are on their way while the
// config still is, which saves the round trips to where blobs are kept. resolved,
// unless it is nil, is called as soon as the image is known, from another
// goroutine, and must not block; it is where to begin unpacking. Pull returns
// when all has arrived or the first thing has gone wrong.
func (p *Puller) Pull(ctx context.Context, ref Reference, st *store.Store, resolved func(*Remote)) (*Remote, error) {
	found, err := p.find(ctx, ref, st)
	if err != nil {
		return nil, err
	}
	var r *Remote
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		if r, err = found.image(ctx); err == nil && resolved != nil {
			resolved(r)
		}
		return err
	})
	g.Go(func() error {
		f := &fetch{puller: p, repo: found.repo, store: st}
		return f.layers(ctx, found.manifest.Layers)
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return r, nil
}

func (f *fetch) layers(ctx context.Context, all []ocispec.Descriptor) error {
	var missing []ocispec.Descriptor
	seen := map[digest.Digest]bool{}
	for _, d := range all {
		if seen[d.Digest] {
			continue
		}
		seen[d.Digest] = true
		f.send(progress.Queued, d, 0)
		if f.store.Has(d) {
			f.send(progress.Exists, d, 0)
			continue
		}
		missing = append(missing, d)
	}
	// The largest first: none of them is left over when the others are done.
	slices.SortStableFunc(missing, func(a, b ocispec.Descriptor) int { return cmp.Compare(b.Size, a.Size) })
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(f.puller.o.Jobs)
	for _, d := range missing {
		g.Go(func() error { return f.layer(ctx, d) })
	}
	return g.Wait()
}

type fetch struct {
	puller *Puller
	repo   *repository
	store  *store.Store
}

func (f *fetch) send(k progress.Kind, d ocispec.Descriptor, current int64) {
	f.puller.o.Progress.Send(progress.Event{Kind: k, Digest: d.Digest, Current: current, Total: d.Size})
}

// layer delivers one layer. When the bytes of an earlier attempt and of this one
// do not make up the blob, it is fetched once more as a whole: either may have
// been the wrong ones.
func (f *fetch) layer(ctx context.Context, d ocispec.Descriptor) error {
	t := &transfer{fetch: f, desc: d}
	err := t.run(ctx)
	var bad *store.VerifyError
	if t.resumed && errors.As(err, &bad) {
		f.retrying(d, 0, err)
		t = &transfer{fetch: f, desc: d, whole: true}
		err = t.run(ctx)
	}
	switch {
	case errors.Is(err, store.ErrExists):
		f.send(progress.Exists, d, 0)
		return nil
	case err != nil:
		return err
	}
	f.send(progress.Downloaded, d, d.Size)
	return nil
}

func (f *fetch) retrying(d ocispec.Descriptor, at int64, why error) {
	f.puller.o.Progress.Send(progress.Event{Kind: progress.Retrying, Digest: d.Digest, Current: at, Total: d.Size, Message: printable(why.Error())})
}

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

var errStalled = errors.New("no bytes arrive any more")

// attempt asks the registry for what is missing. It asks the registry and not
// the host that had the blob the last time, whose signed URL may have expired.
func (t *transfer) attempt(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
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
	stalled := time.AfterFunc(t.puller.wait.stall, func() { cancel(errStalled) })
	defer stalled.Stop()
	err = t.copy(resp.Body, stalled)
	if err != nil && errors.Is(context.Cause(ctx), errStalled) {
		err = &brokenError{errStalled}
	}
	var broken *brokenError
	if errors.As(err, &broken) {
		return &brokenError{fmt.Errorf("blob %s: %s: %w", t.desc.Digest, origin(resp.Request.URL), broken.err)}
	}
	return err
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
func (t *transfer) copy(body io.Reader, stalled *time.Timer) error {
	bufp := t.puller.bufs.Get().(*[]byte)
	defer t.puller.bufs.Put(bufp)
	for t.in.Offset() < t.desc.Size {
		buf := *bufp
		if left := t.desc.Size - t.in.Offset(); left < int64(len(buf)) {
			buf = buf[:left]
		}
		stalled.Reset(t.puller.wait.stall)
		n, readErr := io.ReadAtLeast(body, buf, min(minRead, len(buf)))
		stalled.Stop()
		if _, err := t.in.Write(buf[:n]); err != nil {
			return err
		}
		t.report()
		if readErr != nil {
			if errors.Is(readErr, io.EOF) {
				readErr = io.ErrUnexpectedEOF
			}
			return &brokenError{readErr}
		}
	}
	// The end must be here too, and reading it frees the connection for others.
	stalled.Reset(t.puller.wait.stall)
	var more [1]byte
	if n, _ := io.ReadFull(body, more[:]); n > 0 {
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
