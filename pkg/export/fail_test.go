package export

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestNameBeyondPathMaxIsRefused(t *testing.T) {
	dir := t.TempDir()
	fd, err := unix.Open(dir, unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.Repeat("n", 250)
	for range 17 { // 17 * 251 > 4096
		if err := unix.Mkdirat(fd, name, 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(fd, name, unix.O_PATH, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		fd = next
	}
	unix.Close(fd)
	err = exportTo(dir, io.Discard, Options{})
	var limit *LimitError
	if !errors.As(err, &limit) || limit.Limit != maxName {
		t.Errorf("got %v, want a LimitError of %d", err, maxName)
	}
}

type failingWriter struct{ after int }

var errFull = errors.New("full")

func (w *failingWriter) Write(b []byte) (int, error) {
	if w.after -= len(b); w.after < 0 {
		return 0, errFull
	}
	return len(b), nil
}

func TestErrorOfTheWriterEndsTheExport(t *testing.T) {
	dir := tree(t, file("large", 0o644, strings.Repeat("x", 4<<20)))
	for _, after := range []int{0, 1 << 20, 4<<20 + 512} {
		if err := exportTo(dir, &failingWriter{after}, Options{}); !errors.Is(err, errFull) {
			t.Errorf("after %d bytes: got %v, want %v", after, err, errFull)
		}
	}
}

func TestCancelledExportEnds(t *testing.T) {
	dir := tree(t, file("large", 0o644, strings.Repeat("x", 4<<20)))
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	ctx, cancel := context.WithCancel(context.Background())
	wrote := 0
	err = Tree(ctx, root, writerFunc(func(b []byte) (int, error) {
		cancel()
		wrote += len(b)
		return len(b), nil
	}), Options{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if wrote >= 4<<20 {
		t.Error("it wrote everything all the same")
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
