package export

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"peel/pkg/progress"
)

// exportDuring exports dir and calls change when the first bytes are written. At
// that moment the walk is at most all buffers further, so what comes 2 MiB later
// in the archive has not been read.
func exportDuring(t *testing.T, dir string, change func()) (archive []byte, warnings []string) {
	t.Helper()
	var b bytes.Buffer
	var once sync.Once
	err := exportTo(dir, writerFunc(func(p []byte) (int, error) {
		once.Do(change)
		return b.Write(p)
	}), Options{Progress: func(e progress.Event) { warnings = append(warnings, e.Message) }})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), warnings
}

func TestChangesDuringTheExport(t *testing.T) {
	const size = 4 << 20
	for _, tc := range []struct {
		claim  string
		change func(dir string) error
		want   string
		warns  string
	}{
		{
			"a file that shrinks is filled up with zeros",
			func(dir string) error { return os.Truncate(dir+"/a", 10) },
			"0 0644 0:0 a \"4194304 bytes\"\n0 0644 0:0 b \"b\"\n5 0755 0:0 c/\n0 0644 0:0 c/f \"f\"\n",
			"changed its size",
		},
		{
			"a file that grows is cut off",
			func(dir string) error { return os.Truncate(dir+"/a", size+1) },
			"0 0644 0:0 a \"4194304 bytes\"\n0 0644 0:0 b \"b\"\n5 0755 0:0 c/\n0 0644 0:0 c/f \"f\"\n",
			"changed its size",
		},
		{
			"a file that vanishes is left out",
			func(dir string) error { return os.Remove(dir + "/b") },
			"0 0644 0:0 a \"4194304 bytes\"\n5 0755 0:0 c/\n0 0644 0:0 c/f \"f\"\n",
			"gone before",
		},
		{
			"a directory that became a link is a link",
			func(dir string) error {
				return errors.Join(os.RemoveAll(dir+"/c"), os.Symlink("/etc", dir+"/c"))
			},
			"0 0644 0:0 a \"4194304 bytes\"\n0 0644 0:0 b \"b\"\n2 0777 0:0 c -> /etc\n",
			"",
		},
		{
			"a file that became a link is a link",
			func(dir string) error {
				return errors.Join(os.Remove(dir+"/b"), os.Symlink("/etc/passwd", dir+"/b"))
			},
			"0 0644 0:0 a \"4194304 bytes\"\n2 0777 0:0 b -> /etc/passwd\n5 0755 0:0 c/\n0 0644 0:0 c/f \"f\"\n",
			"",
		},
		{
			"a file that became a fifo does not keep it waiting",
			func(dir string) error {
				return errors.Join(os.Remove(dir+"/b"), unix.Mkfifo(dir+"/b", 0o600))
			},
			"0 0644 0:0 a \"4194304 bytes\"\n6 0600 0:0 b\n5 0755 0:0 c/\n0 0644 0:0 c/f \"f\"\n",
			"",
		},
	} {
		t.Run(tc.claim, func(t *testing.T) {
			needRoot(t)
			dir := tree(t, file("a", 0o644, strings.Repeat("a", size)), file("b", 0o644, "b"), mkdir("c", 0o755), file("c/f", 0o644, "f"))
			archive, warnings := exportDuring(t, dir, func() {
				if err := tc.change(dir); err != nil {
					t.Error(err)
				}
			})
			if got := list(t, archive); got != tc.want {
				t.Errorf("got\n%swant\n%s", got, tc.want)
			}
			if tc.warns == "" && len(warnings) > 0 || tc.warns != "" && (len(warnings) != 1 || !strings.Contains(warnings[0], tc.warns)) {
				t.Errorf("warnings %q, want %q", warnings, tc.warns)
			}
		})
	}
}

// A container that swaps what it has for links to the host and for fifos, as fast
// as it can, while it is exported again and again.
func TestSwappingProcessCannotLeadOut(t *testing.T) {
	const secret = "host secret"
	host := tree(t, mkdir("d", 0o755), file("d/f", 0o644, secret), file("shadow", 0o600, secret))
	dir := tree(t, mkdir("d", 0o755), file("d/f", 0o644, "own"), mkdir("e", 0o755), mkdir("e/d", 0o755), file("e/d/f", 0o644, "own"),
		file("f", 0o644, "own"), file("p", 0o644, "own"),
		symlink("d.swap", host+"/d"), symlink("e.swap", host), symlink("f.swap", host+"/shadow"), node("p.swap", unix.S_IFIFO|0o600, 0, 0))

	stop := make(chan struct{})
	var racers sync.WaitGroup
	racers.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			name := dir + "/" + string("defp"[i%4])
			if err := unix.Renameat2(unix.AT_FDCWD, name, unix.AT_FDCWD, name+".swap", unix.RENAME_EXCHANGE); err != nil {
				t.Errorf("swap %s: %v", name, err)
				return
			}
			// A fifo that someone has open for reading can be opened for writing:
			// then the export opened what it should only have looked at.
			if fd, err := unix.Open(dir+"/p", unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err == nil {
				var st unix.Stat_t
				if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO {
					t.Error("the fifo was opened for reading")
				}
				unix.Close(fd)
			}
		}
	})
	seen := map[string]int{}
	for range 300 {
		archive, _ := archiveOf(t, dir, Options{})
		if bytes.Contains(archive, []byte(secret)) {
			t.Fatalf("the archive holds the host's file:\n%s", list(t, archive))
		}
		for line := range strings.Lines(list(t, archive)) {
			f := strings.Fields(line)
			seen[f[3]+" "+f[0]]++
		}
	}
	close(stop)
	racers.Wait()
	for _, want := range []string{"d/ 5", "d 2", "f 0", "f 2", "p 0", "p 6", "e/ 5", "e 2"} {
		if seen[want] == 0 {
			t.Errorf("never saw %s: the race has not taken place; saw %v", want, seen)
		}
	}
}

// A file whose size changes all the time must never get the archive out of step.
func TestResizingProcessCannotBreakTheArchive(t *testing.T) {
	dir := tree(t, file("a", 0o644, strings.Repeat("a", 100000)), file("b", 0o644, "b"))
	stop := make(chan struct{})
	var racer sync.WaitGroup
	racer.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := os.Truncate(dir+"/a", int64(i%7*100001)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 100 {
		archive, _ := archiveOf(t, dir, Options{})
		r := tar.NewReader(bytes.NewReader(archive))
		for _, want := range []string{"a", "b"} {
			h, err := r.Next()
			if err != nil || h.Name != want {
				t.Fatalf("got %v, %v, want %s", h, err, want)
			}
			if n, err := io.Copy(io.Discard, r); err != nil || n != h.Size {
				t.Fatalf("%s: %d of %d bytes, %v", want, n, h.Size, err)
			}
		}
		if _, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Fatalf("then %v, want the end", err)
		}
	}
	close(stop)
	racer.Wait()
}

func entries(archive []byte) func(func(*tar.Header, error) bool) {
	return func(yield func(*tar.Header, error) bool) {
		for r := tar.NewReader(bytes.NewReader(archive)); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) || !yield(h, err) || err != nil {
				return
			}
		}
	}
}

// exportAsUser makes the test binary export a tree, so that it can be somebody.
const exportAsUser = "export-as-user"

func exportMain(dir string) int {
	if err := exportTo(dir, os.Stdout, Options{}); err != nil {
		fmt.Fprint(os.Stderr, err)
		return 1
	}
	return 0
}

func TestUnreadableFileIsAnErrorThatNamesIt(t *testing.T) {
	needRoot(t)
	dir := tree(t, mkdir("etc", 0o755), file("etc/passwd", 0o644, "p"), file("etc/shadow", 0o600, "s"))
	for up := dir; up != "/" && up != os.TempDir(); up = filepath.Dir(up) {
		if err := os.Chmod(up, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	exe, err := os.Open("/proc/self/exe") // the user may not reach the file by its path
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	run := func() (string, error) {
		cmd := exec.Command("/proc/self/fd/3", exportAsUser, dir)
		cmd.ExtraFiles = []*os.File{exe}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		err := cmd.Run()
		return stderr.String(), err
	}
	stderr, err := run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || stderr != `entry "etc/shadow": open: permission denied` {
		t.Errorf("got %v, %q", err, stderr)
	}
	if err := os.Chmod(dir+"/etc/shadow", 0o644); err != nil {
		t.Fatal(err)
	}
	// Others' files that may be read can be exported, though not without noting
	// the access.
	if stderr, err = run(); err != nil {
		t.Errorf("got %v, %q", err, stderr)
	}
}
