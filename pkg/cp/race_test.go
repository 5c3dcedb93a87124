package cp

import (
	"archive/tar"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// swap exchanges two names again and again until stop is called: what a container
// would do that knows what is about to be looked up.
func swap(t *testing.T, a, b string) (stop func()) {
	t.Helper()
	end := make(chan struct{})
	var swapper sync.WaitGroup
	swapper.Go(func() {
		for {
			select {
			case <-end:
				return
			default:
			}
			if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE); err != nil {
				t.Error(err)
				return
			}
		}
	})
	return func() {
		close(end)
		swapper.Wait()
	}
}

// raceFor is how long each race is run.
const raceFor = 300 * time.Millisecond

func TestASwappedDirectoryLeadsNoCopyOut(t *testing.T) {
	outside := tree(t, "secret=secret f=untouched")
	var read, written, refused int
	for _, target := range []string{outside, "/", "../../../../../../../../" + outside} {
		root := tree(t, "in/d/secret=inside in/d/f=f")
		if err := os.Symlink(target, root+"/in/evil"); err != nil {
			t.Fatal(err)
		}
		stop := sync.OnceFunc(swap(t, root+"/in/d", root+"/in/evil"))
		defer stop()
		for end := time.Now().Add(raceFor); time.Now().Before(end); {
			// Out of the container: a file, a directory, what is above both.
			for _, name := range []string{"in/d/secret", "in/d/", "in"} {
				to := tree(t, "")
				if _, err := Copy(t.Context(), place(t, root, name), place(t, to, "x"), Options{}); err != nil {
					refused++
				} else {
					read++
				}
				if got := words(t, to); strings.Contains(got, "secret=secret") {
					t.Fatalf("copied from outside: %s", got)
				}
			}
			// Into it: to a file, into a directory, an archive.
			from := tree(t, "f=new d/f=new d/sub/g=new")
			for _, names := range [][2]string{{"f", "in/d/f"}, {"f", "in/d"}, {"d/.", "in/d"}, {"d", "in"}} {
				if _, err := Copy(t.Context(), place(t, from, names[0]), place(t, root, names[1]), Options{}); err != nil {
					refused++
				} else {
					written++
				}
			}
			if _, err := Unpack(t.Context(), archive(t, header("d/f"), header("d/sub/g")), place(t, root, "in"), Options{}); err != nil {
				refused++
			}
			if got := words(t, outside); got != "f=untouched secret=secret" {
				t.Fatalf("written outside: %s", got)
			}
		}
		stop()
		if _, err := os.Lstat("/sub"); !errors.Is(err, os.ErrNotExist) {
			t.Fatal("written to the root of the host")
		}
	}
	if read == 0 || written == 0 || refused == 0 {
		t.Errorf("no race: %d read, %d written, %d refused", read, written, refused)
	}
}

// A file of the tree is swapped for a link while it is copied out: the copy is the
// one or the other, and never what the link leads to.
func TestASwappedFileIsNotFollowed(t *testing.T) {
	outside := tree(t, "secret=secret")
	root := tree(t, "d/f=inside d/l->"+outside+"/secret")
	stop := swap(t, root+"/d/f", root+"/d/l")
	defer stop()
	for end := time.Now().Add(raceFor); time.Now().Before(end); {
		to := tree(t, "")
		if _, err := Copy(t.Context(), place(t, root, "d"), place(t, to, "x"), Options{}); err != nil {
			t.Fatal(err)
		}
		if got := words(t, to); strings.Contains(got, "=secret") {
			t.Fatalf("followed: %s", got)
		}
	}
}

func header(name string) *tar.Header {
	return &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Uname: "new"}
}
