package vm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
)

// CopyFile copies a program.
func CopyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// AddProgram puts a program of this machine, with the libraries it is linked
// with, into a tree, at the same places.
func AddProgram(tree, path string) error {
	if err := CopyFile(path, filepath.Join(tree, path)); err != nil {
		return err
	}
	out, err := exec.Command("ldd", path).Output()
	if err != nil {
		return fmt.Errorf("ldd %s: %w", path, err)
	}
	// "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...)", and the loader
	// without an arrow.
	for _, m := range regexp.MustCompile(`(/[^ ]+) \(0x`).FindAllSubmatch(out, -1) {
		lib := string(m[1])
		if err := CopyFile(lib, filepath.Join(tree, lib)); err != nil {
			return err
		}
	}
	return nil
}
