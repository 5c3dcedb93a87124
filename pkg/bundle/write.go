package bundle

import (
	"bytes"
	"encoding/json"
	"os"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Write makes the config.json of an image in dir, a bundle's directory, which has
// none yet. Both files stay the caller's; Spec says more about rootfs.
func Write(dir, rootfs *os.File, img ocispec.Image, o Options) error {
	s, err := Spec(img, rootfs, o)
	if err != nil {
		return err
	}
	data, err := encode(s)
	if err != nil {
		return err
	}
	const name = "config.json"
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return &os.PathError{Op: "create", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(data); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// encode is JSON for people too: they edit this file.
func encode(s *specs.Spec) ([]byte, error) {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	e.SetIndent("", "\t")
	err := e.Encode(s)
	return buf.Bytes(), err
}
