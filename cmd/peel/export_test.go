package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestExportRefusesATerminal(t *testing.T) {
	tty := openTerminal(t)
	a := &app{stdout: tty, stderr: io.Discard, progress: "none"}
	dir := t.TempDir()
	var usage usageError
	if err := a.export(t.Context(), exportRequest{dir: dir, rootfs: true}); !errors.As(err, &usage) {
		t.Errorf("to the terminal: %v, want a usageError", err)
	}
	if err := a.export(t.Context(), exportRequest{dir: dir, rootfs: true, output: filepath.Join(t.TempDir(), "f")}); err != nil {
		t.Errorf("to a file: %v", err)
	}
}

// openTerminal opens a pseudo terminal and returns the side that programs see.
func openTerminal(t *testing.T) *os.File {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("needs a pseudo terminal: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	return tty
}

func TestReplaceFile(t *testing.T) {
	errHalf := errors.New("broke off")
	half := func(w io.Writer) error { io.WriteString(w, "ha"); return errHalf }
	full := func(w io.Writer) error { _, err := io.WriteString(w, "full"); return err }
	for _, tc := range []struct {
		claim  string
		before string // empty: no file
		write  func(io.Writer) error
		after  string
	}{
		{"a new file appears when it is complete", "", full, "full"},
		{"an old one is replaced", "old", full, "full"},
		{"a failure leaves no file", "", half, ""},
		{"a failure leaves the old one", "old", half, "old"},
	} {
		t.Run(tc.claim, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "f")
			files := 0
			if tc.before != "" {
				if err := os.WriteFile(path, []byte(tc.before), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			err := replaceFile(path, tc.write)
			if errors.Is(err, errHalf) != (tc.after == tc.before) {
				t.Errorf("error %v", err)
			}
			if tc.after != "" {
				files++
			}
			got, _ := os.ReadFile(path)
			if string(got) != tc.after {
				t.Errorf("the file holds %q, want %q", got, tc.after)
			}
			if list, _ := os.ReadDir(dir); len(list) != files {
				t.Errorf("%d files, want %d", len(list), files)
			}
		})
	}
	t.Run("a link is written through, not replaced", func(t *testing.T) {
		dir := t.TempDir()
		if err := errors.Join(os.WriteFile(dir+"/target", []byte("old content"), 0o644), os.Symlink("target", dir+"/f")); err != nil {
			t.Fatal(err)
		}
		if err := replaceFile(dir+"/f", full); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(dir + "/target"); string(got) != "full" {
			t.Errorf("the target holds %q", got)
		}
	})
}
