package export

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"peel/pkg/progress"
)

// exportToPipe exports dir into a pipe and calls change when its first bytes come
// out. The pipe holds little, so most of a large file has not been read then.
func exportToPipe(t *testing.T, dir string, change func()) (archive []byte, warnings []string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var readErr error
	var reader sync.WaitGroup
	reader.Go(func() {
		first := make([]byte, 1)
		if _, readErr = io.ReadFull(r, first); readErr != nil {
			return
		}
		change()
		var rest []byte
		rest, readErr = io.ReadAll(r)
		archive = append(first, rest...)
	})
	err = exportTo(dir, w, Options{Progress: func(e progress.Event) { warnings = append(warnings, e.Message) }})
	w.Close()
	reader.Wait()
	if err := errors.Join(err, readErr); err != nil {
		t.Fatal(err)
	}
	return archive, warnings
}

// Files go into a pipe by another way. It must make no difference.
func TestPipeGetsTheSameArchive(t *testing.T) {
	sizes := []int{0, 1, sendFrom - 1, sendFrom, sendFrom + 1, sendFrom + blockSize, 3*bufferSize + 13}
	var steps []step
	for i, size := range sizes {
		data := make([]byte, size)
		for j := range data {
			data[j] = byte(i + j>>8)
		}
		steps = append(steps, file(fmt.Sprint("f", i), 0o644, string(data)))
	}
	dir := tree(t, append(steps, file("last", 0o600, "end"))...)
	want, _ := archiveOf(t, dir, Options{})
	got, warnings := exportToPipe(t, dir, func() {})
	if !bytes.Equal(got, want) || len(warnings) > 0 {
		t.Errorf("a pipe gets %d bytes, a buffer %d; warnings %q", len(got), len(want), warnings)
	}

	const size = 4 << 20
	for claim, to := range map[string]int64{"shrinks": 10, "grows": size + 1} {
		t.Run("also if a file "+claim, func(t *testing.T) {
			dir := tree(t, file("a", 0o644, strings.Repeat("a", size)), file("b", 0o644, "b"))
			archive, warnings := exportToPipe(t, dir, func() {
				if err := os.Truncate(dir+"/a", to); err != nil {
					t.Error(err)
				}
			})
			got := list(t, archive)
			if want := fmt.Sprintf("0 0644 %d:%d a \"4194304 bytes\"\n0 0644 %[1]d:%d b \"b\"\n", os.Geteuid(), os.Getegid()); got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
			if len(warnings) != 1 || !strings.Contains(warnings[0], `"a": changed its size`) {
				t.Errorf("warnings %q", warnings)
			}
		})
	}
}

func TestClosedPipeEndsTheExport(t *testing.T) {
	dir := tree(t, file("a", 0o644, strings.Repeat("a", 4<<20)))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r.Close()
	if err := exportTo(dir, w, Options{}); !errors.Is(err, unix.EPIPE) {
		t.Errorf("got %v, want EPIPE", err)
	}
}
