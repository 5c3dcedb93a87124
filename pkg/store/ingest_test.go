package store

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestBlobAppearsOnlyWhenComplete(t *testing.T) {
	root := t.TempDir()
	s, d := open(t, root), describe(blob)
	in := ingest(t, s, d)
	write(t, in, blob)
	if s.Has(d) {
		t.Fatal("blob is there before Commit")
	}
	if err := in.Commit(); err != nil {
		t.Fatal(err)
	}
	if got, err := read(t, s, d); err != nil || string(got) != string(blob) {
		t.Fatalf("read %q, %v", got, err)
	}
	if _, err := s.Ingest(t.Context(), d); !errors.Is(err, ErrExists) {
		t.Fatalf("second Ingest: %v, want ErrExists", err)
	}
	if got, want := files(t, root), "images/blobs/sha256/"+d.Digest.Encoded()+" images/index.json images/oci-layout"; got != want {
		t.Fatalf("files: %s\nwant:  %s", got, want)
	}
}

func TestWrongBlobLeavesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		content string
		sizeOff int64
	}{
		"content differs": {"A LAYER, as far as the store is concerned", 0},
		"too short":       {"a layer", 0},
		"too long":        {string(blob) + "!", 0},
		"size in the descriptor is wrong, digest right": {string(blob), 1},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			s, d := open(t, root), describe(blob)
			d.Size += c.sizeOff
			in := ingest(t, s, d)
			_, err := in.Write([]byte(c.content))
			if err == nil {
				err = in.Commit()
			}
			var bad *VerifyError
			if !errors.As(err, &bad) || bad.Want.Digest != d.Digest {
				t.Fatalf("error is %v, want a VerifyError", err)
			}
			if s.Has(d) {
				t.Fatal("the wrong blob is in the store")
			}
		})
	}
}

func TestTransferResumes(t *testing.T) {
	root := t.TempDir()
	d := describe(blob)
	in := ingest(t, open(t, root), d)
	write(t, in, blob[:10])
	in.Close()

	s := open(t, root) // as the next process does
	in = ingest(t, s, d)
	if in.Offset() != 10 {
		t.Fatalf("offset %d, want 10", in.Offset())
	}
	write(t, in, blob[10:])
	if err := in.Commit(); err != nil {
		t.Fatal(err)
	}
	if got, err := read(t, s, d); err != nil || string(got) != string(blob) {
		t.Fatalf("read %q, %v", got, err)
	}
}

func TestResumeOfSpoiltBytesIsRefusedOnceAndThenStartsOver(t *testing.T) {
	root := t.TempDir()
	s, d := open(t, root), describe(blob)
	in := ingest(t, s, d)
	write(t, in, []byte("spoilt"))
	in.Close()
	in = ingest(t, s, d)
	write(t, in, blob[in.Offset():])
	if err := in.Commit(); err == nil {
		t.Fatal("spoilt blob was accepted")
	}
	in.Close()
	if in = ingest(t, s, d); in.Offset() != 0 {
		t.Fatalf("offset %d after a refused blob, want 0", in.Offset())
	}
}

func TestReaderFollowsABlobInFlight(t *testing.T) {
	s, d := open(t, t.TempDir()), describe(blob)
	if _, err := s.Blob(t.Context(), d); !errors.Is(err, ErrNotFound) {
		t.Fatalf("Blob before any Ingest: %v, want ErrNotFound", err)
	}
	r, err := s.Follow().Blob(t.Context(), d) // before the delivery begins
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	in := ingest(t, s, d)
	got := make([]byte, 5)
	for i, part := range [][]byte{blob[:5], blob[5:10]} {
		write(t, in, part)
		if _, err := io.ReadFull(r, got); err != nil || string(got) != string(part) {
			t.Fatalf("part %d: read %q, %v", i, got, err)
		}
	}
	in.Close() // the connection breaks
	in = ingest(t, s, d)
	write(t, in, blob[in.Offset():])

	end := make(chan error, 1)
	rest := make([]byte, len(blob)-10)
	if _, err := io.ReadFull(r, rest); err != nil || string(rest) != string(blob[10:]) {
		t.Fatalf("rest: %q, %v", rest, err)
	}
	go func() { _, err := r.Read(got); end <- err }()
	select {
	case err := <-end:
		t.Fatalf("reader ended with %v before the blob was verified", err)
	default:
	}
	if err := in.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := <-end; err != io.EOF {
		t.Fatalf("reader ended with %v, want EOF", err)
	}
}

func TestFollowerOfAWrongBlobFails(t *testing.T) {
	s, d := open(t, t.TempDir()), describe(blob)
	in := ingest(t, s, d)
	write(t, in, []byte(strings.ToUpper(string(blob))))
	r, err := s.Blob(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := in.Commit(); err == nil {
		t.Fatal("wrong blob committed")
	}
	var bad *VerifyError
	if _, err := io.ReadAll(r); !errors.As(err, &bad) {
		t.Fatalf("follower got %v, want a VerifyError", err)
	}
}

func TestCancelEndsAWaitingReader(t *testing.T) {
	s, d := open(t, t.TempDir()), describe(blob)
	ctx, cancel := context.WithCancel(t.Context())
	r, err := s.Follow().Blob(ctx, d)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.ReadAll(r); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}

func TestTwoStoresDeliverABlobOnce(t *testing.T) {
	root := t.TempDir()
	d := describe(blob)
	first := ingest(t, open(t, root), d)
	other := open(t, root) // its own descriptors: to the kernel's locks, another process
	follower, err := other.Follow().Blob(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	second := make(chan error, 1)
	go func() {
		in, err := other.Ingest(t.Context(), d)
		if err == nil {
			in.Close()
		}
		second <- err
	}()
	// It waits for the lock of the file that it has opened.
	for path := first.file.Name(); opened(t, path) < 2; {
		runtime.Gosched()
	}
	write(t, first, blob)
	if err := first.Commit(); err != nil {
		t.Fatal(err)
	}
	first.Close()
	if err := <-second; !errors.Is(err, ErrExists) {
		t.Fatalf("second Ingest: %v, want ErrExists", err)
	}
	if got, err := io.ReadAll(follower); err != nil || string(got) != string(blob) {
		t.Fatalf("follower of the other store read %q, %v", got, err)
	}
}

func TestWaitForALockCanBeCancelled(t *testing.T) {
	root := t.TempDir()
	d := describe(blob)
	ingest(t, open(t, root), d)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := open(t, root).Ingest(ctx, d); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}

// opened counts this process's descriptors of the file at path.
func opened(t *testing.T, path string) (n int) {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if target, _ := os.Readlink(fd); target == path {
			n++
		}
	}
	return n
}

func TestWhoDeliversAfterAFailureStartsANewFile(t *testing.T) {
	root := t.TempDir()
	d := describe(blob)
	first := ingest(t, open(t, root), d)
	other := open(t, root)
	second := make(chan error, 1)
	go func() {
		in, err := other.Ingest(t.Context(), d)
		if err == nil {
			_, writeErr := in.Write(blob)
			err = errors.Join(writeErr, in.Commit(), in.Close())
		}
		second <- err
	}()
	for path := first.file.Name(); opened(t, path) < 2; {
		runtime.Gosched()
	}
	if err := first.Commit(); err == nil { // which removes the file that second waits for
		t.Fatal("nothing was accepted for a blob")
	}
	first.Close()
	if err := <-second; err != nil {
		t.Fatal(err)
	}
	if got, err := read(t, other, d); err != nil || string(got) != string(blob) {
		t.Fatalf("read %q, %v", got, err)
	}
}

func TestTransferThatStartsOver(t *testing.T) {
	s, d := open(t, t.TempDir()), describe(blob)
	in := ingest(t, s, d)
	write(t, in, []byte("of another blob"))
	if err := in.Reset(); err != nil || in.Offset() != 0 {
		t.Fatalf("offset %d, %v", in.Offset(), err)
	}
	write(t, in, blob)
	if err := in.Commit(); err != nil {
		t.Fatal(err)
	}
	if got, err := read(t, s, d); err != nil || string(got) != string(blob) {
		t.Fatalf("read %q, %v", got, err)
	}
}

func TestWhatAnEarlierTransferHasLeft(t *testing.T) {
	for name, c := range map[string]struct {
		left   string
		offset int64
	}{
		"a part of the blob":          {string(blob[:10]), 10},
		"all of it":                   {string(blob), int64(len(blob))},
		"more than the blob can have": {string(blob) + "!", 0},
	} {
		t.Run(name, func(t *testing.T) {
			s, d := open(t, t.TempDir()), describe(blob)
			if err := os.WriteFile(s.ingestPath(d.Digest), []byte(c.left), 0o600); err != nil {
				t.Fatal(err)
			}
			in := ingest(t, s, d)
			if in.Offset() != c.offset {
				t.Fatalf("offset %d, want %d", in.Offset(), c.offset)
			}
			// Whoever follows sees it before anything else arrives.
			r, err := s.Blob(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			got := make([]byte, c.offset)
			if _, err := io.ReadFull(r, got); err != nil || string(got) != string(blob[:c.offset]) {
				t.Fatalf("read %q, %v", got, err)
			}
			write(t, in, blob[c.offset:])
			if err := in.Commit(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestSmallBlobDoesNotGoOnFromWhatIsLeft(t *testing.T) {
	s, d := open(t, t.TempDir()), describe(blob)
	if err := os.WriteFile(s.ingestPath(d.Digest), []byte("spoilt"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.WriteBlob(t.Context(), d, blob); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadBlob(d); err != nil {
		t.Fatal(err)
	}
}

func TestNoByteTooManyIsWritten(t *testing.T) {
	s, d := open(t, t.TempDir()), describe(blob)
	in := ingest(t, s, d)
	write(t, in, blob[:10])
	var bad *VerifyError
	if n, err := in.Write(append(blob[10:], '!')); n != 0 || !errors.As(err, &bad) {
		t.Fatalf("wrote %d, %v, want a VerifyError", n, err)
	}
	if fi, err := in.file.Stat(); err != nil || fi.Size() != 10 || in.Offset() != 10 {
		t.Fatalf("offset %d, the file has %d bytes, %v", in.Offset(), fi.Size(), err)
	}
}

func TestIngestFollowsNoLink(t *testing.T) {
	root := t.TempDir()
	s, d := open(t, root), describe(blob)
	victim := filepath.Join(root, "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, s.ingestPath(d.Digest)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Ingest(t.Context(), d); !errors.Is(err, unix.ELOOP) {
		t.Fatalf("Ingest: %v, want ELOOP", err)
	}
	if b, _ := os.ReadFile(victim); string(b) != "precious" {
		t.Fatalf("the link's target now holds %q", b)
	}
}

func TestFullDiskLeavesNoPartOfABlob(t *testing.T) {
	root := t.TempDir()
	if err := unix.Mount("none", root, "tmpfs", 0, "size=256k"); err != nil {
		t.Skip("needs to mount a small file system: ", err)
	}
	defer unix.Unmount(root, unix.MNT_DETACH)
	large := make([]byte, 1<<20)
	s, d := open(t, root), describe(large)
	in := ingest(t, s, d)
	_, err := in.Write(large)
	var own *Error
	if !errors.Is(err, unix.ENOSPC) || !errors.As(err, &own) {
		t.Fatalf("Write: %v, want ENOSPC in an Error", err)
	}
	in.Close()
	if got := files(t, root); strings.Contains(got, "ingest/") {
		t.Fatalf("left: %s", got)
	}
	if err := s.WriteBlob(t.Context(), describe(blob), blob); err != nil {
		t.Fatalf("there is room again, but %v", err)
	}
}
