package explain

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write what is found as what is wanted; then read it")

// machine is a recorded /proc and /sys. In the archive a name that ends in @ is a
// symbolic link; one whose target is EACCES may not be read.
type machine struct{ fstest.MapFS }

func (m machine) ReadLink(name string) (string, error) {
	target, err := m.MapFS.ReadLink(name)
	if target == "EACCES" {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: syscall.EACCES}
	}
	return target, err
}

func recorded(t *testing.T, name string) (m machine, a *txtar.Archive) {
	t.Helper()
	a, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	m = machine{fstest.MapFS{}}
	for _, f := range a.Files {
		data := f.Data
		if strings.HasSuffix(f.Name, "/cmdline") {
			data = bytes.ReplaceAll(bytes.TrimSuffix(data, []byte("\n")), []byte(`\0`), []byte{0})
		}
		// The one flag whose number is not the same on all architectures.
		data = bytes.ReplaceAll(data, []byte("$DIRECTORY"), fmt.Appendf(nil, "%#o", unix.O_DIRECTORY))
		if link, ok := strings.CutSuffix(f.Name, "@"); ok {
			m.MapFS[link] = &fstest.MapFile{Data: bytes.TrimSpace(data), Mode: fs.ModeSymlink | 0o777}
		} else {
			m.MapFS[f.Name] = &fstest.MapFile{Data: data}
		}
	}
	return m, a
}

// facts is a report as JSON, a field a line, and in lists of objects one of these.
func facts(t *testing.T, r *Report) []byte {
	t.Helper()
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		t.Fatal(err)
	}
	var lines []byte
	for v := reflect.TypeOf(*r); len(fields) > 0; {
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Field(i).Tag.Get("json"), ",")
			if value, ok := fields[name]; ok {
				lines = fmt.Appendf(lines, "%s: %s\n", name, bytes.ReplaceAll(value, []byte(`},{`), []byte("},\n {")))
				delete(fields, name)
			}
		}
	}
	return lines
}

// Each archive under testdata is a machine; want is the report on the process
// that has a command line there.
func TestRecordedMachines(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(names) < 4 {
		t.Fatalf("recorded machines: %v, %v", names, err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			m, a := recorded(t, name)
			pids, err := fs.Glob(m, "proc/*/cmdline")
			if err != nil || len(pids) != 1 {
				t.Fatal(pids, err)
			}
			pid, err := strconv.Atoi(strings.Split(pids[0], "/")[1])
			if err != nil {
				t.Fatal(err)
			}
			r, err := Process(t.Context(), m, pid)
			if err != nil {
				t.Fatal(err)
			}
			got := facts(t, r)
			for i := range a.Files {
				f := &a.Files[i]
				if f.Name != "want" {
					continue
				}
				if *update {
					f.Data = got
					if err := os.WriteFile(name, txtar.Format(a), 0o644); err != nil {
						t.Fatal(err)
					}
				} else if !bytes.Equal(f.Data, got) {
					t.Errorf("got\n%s\nwant\n%s", got, f.Data)
				}
				return
			}
			t.Error("no want")
		})
	}
}

func TestGoneProcess(t *testing.T) {
	m, _ := recorded(t, "testdata/docker-v2.txtar")
	if _, err := Process(t.Context(), m, 4712); !errors.Is(err, ErrGone) {
		t.Errorf("a number that nobody has: %v, want ErrGone", err)
	}
	if _, err := Process(t.Context(), os.DirFS("/"), -1); !errors.Is(err, ErrGone) {
		t.Errorf("a number that nobody can have: %v, want ErrGone", err)
	}
}

// vanishing takes the process away at its n-th file.
type vanishing struct {
	machine
	left *int
	then func(m machine)
}

func (v vanishing) Open(name string) (fs.File, error) {
	v.step()
	return v.machine.Open(name)
}

func (v vanishing) ReadLink(name string) (string, error) {
	v.step()
	return v.machine.ReadLink(name)
}

func (v vanishing) step() {
	if *v.left--; *v.left == 0 {
		v.then(v.machine)
	}
}

func TestProcessThatEndsMeanwhileIsGone(t *testing.T) {
	for what, then := range map[string]func(m machine){
		"it ends": func(m machine) {
			for name := range m.MapFS {
				if strings.HasPrefix(name, "proc/4711/") {
					delete(m.MapFS, name)
				}
			}
		},
		"its number goes to another": func(m machine) {
			f := m.MapFS["proc/4711/stat"]
			f.Data = bytes.ReplaceAll(f.Data, []byte("333907"), []byte("333999"))
		},
	} {
		t.Run(what, func(t *testing.T) {
			m, _ := recorded(t, "testdata/docker-v2.txtar")
			never := 0
			if _, err := Process(t.Context(), vanishing{m, &never, nil}, 4711); err != nil {
				t.Fatal(err)
			}
			// The last read is that of stat itself.
			for n := 2; n < -never; n++ {
				m, _ := recorded(t, "testdata/docker-v2.txtar")
				left := n
				if _, err := Process(t.Context(), vanishing{m, &left, then}, 4711); !errors.Is(err, ErrGone) {
					t.Fatalf("at the %dth file: %v, want ErrGone", n, err)
				}
			}
		})
	}
}

// hanging is a machine on which the process's own memory can't be read.
type hanging struct {
	machine
	until chan struct{}
}

func (h hanging) Open(name string) (fs.File, error) {
	if strings.HasSuffix(name, "/cmdline") {
		<-h.until
	}
	return h.machine.Open(name)
}

func TestMemoryThatNeverComesIsNotWaitedFor(t *testing.T) {
	m, _ := recorded(t, "testdata/docker-v2.txtar")
	h := hanging{m, make(chan struct{})}
	defer close(h.until)
	r, err := Process(t.Context(), h, 4711)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Unreadable) != 1 || r.Unreadable[0].What != "command line" {
		t.Errorf("unreadable: %+v", r.Unreadable)
	}
	if r.Name != "nginx" || r.Seccomp.Mode != "filter" {
		t.Errorf("the rest is missing: %+v", r)
	}
}

func TestCancelledReportEnds(t *testing.T) {
	m, _ := recorded(t, "testdata/docker-v2.txtar")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Process(ctx, m, 4711); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestDenied(t *testing.T) {
	m, _ := recorded(t, "testdata/docker-v2.txtar")
	m.MapFS["proc/4711/root"].Data = []byte("EACCES")
	r, err := Process(t.Context(), m, 4711)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Denied() || len(r.Unreadable) != 1 || r.Unreadable[0].What != "mounts" {
		t.Errorf("unreadable: %+v", r.Unreadable)
	}
}
