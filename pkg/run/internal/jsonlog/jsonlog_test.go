package jsonlog

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// read returns all texts of a log, from its oldest entry.
func read(t *testing.T, r *Reader) string {
	t.Helper()
	var b strings.Builder
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return b.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(e.Text)
	}
}

func open(t *testing.T, name string) *Reader {
	t.Helper()
	r, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestWhatIsLoggedIsRead(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":                "",
		"lines":                  "a\nb\n\nc\n",
		"no end of line":         "a\nb",
		"a line longer than one": strings.Repeat("x", 5*MaxLine+7) + "\ny\n",
		"what JSON must escape":  "\x00\x1b[31m\"\\\t<&>\u2028\n",
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "log")
			w, err := Create(file, 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Copy("stdout", strings.NewReader(text)); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if got := read(t, open(t, file)); got != text {
				t.Errorf("got %.80q, want %.80q", got, text)
			}
		})
	}
}

func TestAReaderGoesOnAcrossRotation(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	r := open(t, file)
	if got := read(t, r); got != "" {
		t.Errorf("before the log: %q", got)
	}
	w, err := Create(file, 300)
	if err != nil {
		t.Fatal(err)
	}
	var want, got strings.Builder
	for i := range 50 {
		line := strings.Repeat(string(rune('a'+i%26)), 10) + "\n"
		want.WriteString(line)
		if err := w.Copy("stderr", strings.NewReader(line)); err != nil {
			t.Fatal(err)
		}
		got.WriteString(read(t, r))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got.String() != want.String() {
		t.Errorf("got %q, want %q", got.String(), want.String())
	}
	for _, f := range []string{file, file + ".1"} {
		if info, err := os.Stat(f); err != nil || info.Size() > 300 {
			t.Errorf("%s: %v, %v", f, info.Size(), err)
		}
	}
	// Who comes late finds the end of it.
	if late := read(t, open(t, file)); !strings.HasSuffix(want.String(), late) || late == "" {
		t.Errorf("late: %q", late)
	}
}

func TestACutLineIsPassedOver(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	good := `{"log":"good\n","stream":"stdout","time":"2026-01-02T15:04:05Z"}` + "\n"
	if err := os.WriteFile(file, []byte(good+`{"log":"cut`+"\n"+good+`{"log":"unfinished`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := read(t, open(t, file)); got != "good\ngood\n" {
		t.Errorf("got %q", got)
	}
}

// FuzzReader: no file makes the reader panic, hang or return an error.
func FuzzReader(f *testing.F) {
	f.Add([]byte(`{"log":"a\n","stream":"stdout","time":"2026-01-02T15:04:05Z"}` + "\n"))
	f.Add([]byte("{}\n{\"log\":1}\n\n\x00"))
	f.Add([]byte(strings.Repeat("x", 3*maxEntry)))
	f.Fuzz(func(t *testing.T, b []byte) {
		file := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		r := open(t, file)
		for range len(b) + 2 {
			if _, err := r.Next(); errors.Is(err, io.EOF) {
				return
			} else if err != nil {
				t.Fatal(err)
			}
		}
		t.Fatal("no end")
	})
}
