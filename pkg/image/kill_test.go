package image

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/pkg/store"
)

// killedDir is where the child of TestPrepareKilledAtAnyMoment works.
const killedDir = "PEEL_TEST_PREPARE_IN"

// TestPrepareKilledAtAnyMoment kills a process that prepares an image after its first
// piece of a blob, its second, and so on until it gets to its end: after each, nothing
// in the cache is damaged. What was killed last is then finished.
func TestPrepareKilledAtAnyMoment(t *testing.T) {
	tars := layersOf(t)
	src, img := imageOf(t, tars[0], tars[1], tars[3]) // the others are not the same each time
	if dir := os.Getenv(killedDir); dir != "" {
		c, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		prepare(t, c, telling{src}, img)
		return
	}
	for name, keep := range map[string]bool{"each on what the last has left": true, "each from the start": false} {
		t.Run(name, func(t *testing.T) {
			c := open(t)
			n := 1
			for ; !killedAfter(t, c.root, n); n++ {
				found, _, err := c.Verify(t.Context(), []ID{IDOf(img)}, nil, 2)
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range found {
					if f.What != store.Partial {
						t.Errorf("killed after %d pieces: %s %s", n, f.What, f.Path)
					}
				}
				if !keep {
					c = open(t)
				}
			}
			if !keep && n < 4 { // a killed one may have got far
				t.Errorf("after %d pieces it was done", n)
			}
			left, _, err := c.Verify(t.Context(), []ID{IDOf(img)}, nil, 2)
			if err != nil || strings.Contains(findingsOf(c, left), string(store.Damaged)) {
				t.Errorf("%v, %s", err, findingsOf(c, left))
			}
			p, err := c.Find(IDOf(img))
			if err != nil {
				t.Fatal(err)
			}
			p.Close()
			if _, err := c.Prune(keeping(img), os.RemoveAll); err != nil { // what is left over of an index
				t.Fatal(err)
			}
			nothingLeft(t, c)
		})
	}
}

// killedAfter has a process prepare the image, and kills it after n pieces. It
// reports whether the process ended before that.
func killedAfter(t *testing.T, dir string, n int) (ended bool) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestPrepareKilledAtAnyMoment$")
	cmd.Env = append(os.Environ(), killedDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var other []string
	for lines := bufio.NewScanner(out); n > 0 && lines.Scan(); {
		if lines.Text() == piece {
			n--
		} else {
			other = append(other, lines.Text())
		}
	}
	if n == 0 {
		cmd.Process.Kill()
		cmd.Wait()
		return false
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, strings.Join(other, "\n"))
	}
	return true
}

const piece = "a piece of a blob was read"

// telling gives blobs piece by piece, and tells of each.
type telling struct{ *blobs }

func (b telling) Blob(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	r, err := b.blobs.Blob(ctx, d)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{tellingReader{r}, r}, nil
}

type tellingReader struct{ r io.Reader }

func (t tellingReader) Read(p []byte) (int, error) {
	fmt.Println(piece)
	return t.r.Read(p[:min(len(p), 2048)])
}
