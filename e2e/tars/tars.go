// Package tars makes layers and images by hand, entry by entry: what no build
// tool would write, and what must be known to the last byte.
package tars

import (
	"archive/tar"
	"embed"
	"fmt"
	"io"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/e2e/layout"
)

// Sources is this package, for those who keep what it made.
//
//go:embed *.go
var Sources embed.FS

// Entry is one member of a layer's tar.
type Entry struct {
	tar.Header
	Body string
}

// Day is the time of all entries that do not have one of their own.
var Day = time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)

// File is a regular file, of mode 0644.
func File(name, body string) Entry {
	return Entry{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(body))}, body}
}

// Empty is a file of no content and no rights: a whiteout, by its name.
func Empty(name string) Entry {
	return Entry{Header: tar.Header{Name: name, Typeflag: tar.TypeReg}}
}

// Dir is a directory, of mode 0755.
func Dir(name string) Entry {
	return Entry{Header: tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: 0o755}}
}

// Symlink is a symbolic link.
func Symlink(name, target string) Entry {
	return Entry{Header: tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777}}
}

// Hardlink is another name of a file; target is a name in the tar.
func Hardlink(name, target string) Entry {
	return Entry{Header: tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target, Mode: 0o644}}
}

func (e Entry) with(change func(*tar.Header)) Entry { change(&e.Header); return e }

// Mode, At, Owner, Format and Xattr return the entry with that header field.
func (e Entry) Mode(m int64) Entry { return e.with(func(h *tar.Header) { h.Mode = m }) }

func (e Entry) At(t time.Time) Entry { return e.with(func(h *tar.Header) { h.ModTime = t }) }

func (e Entry) Owner(uid, gid int) Entry {
	return e.with(func(h *tar.Header) { h.Uid, h.Gid = uid, gid })
}

func (e Entry) Format(f tar.Format) Entry { return e.with(func(h *tar.Header) { h.Format = f }) }

func (e Entry) Xattr(name, value string) Entry {
	return e.with(func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr." + name: value} })
}

// Image adds an image of plain layers to dst.
func Image(dst *layout.Dir, arch string, c ocispec.ImageConfig, layers ...[]Entry) (ocispec.Descriptor, error) {
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: arch}, Config: c}
	config.RootFS.Type = "layers"
	var descs []ocispec.Descriptor
	for i, entries := range layers {
		d, err := dst.Add(ocispec.MediaTypeImageLayer, func(w io.Writer) error { return write(w, entries) })
		if err != nil {
			return d, fmt.Errorf("layer %d: %w", i, err)
		}
		descs = append(descs, d)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, d.Digest) // a plain tar's digest is its DiffID
	}
	return dst.AddImage(config, descs)
}

func write(w io.Writer, entries []Entry) error {
	t := tar.NewWriter(w)
	for _, e := range entries {
		h := e.Header
		if h.ModTime.IsZero() {
			h.ModTime = Day
		}
		if err := t.WriteHeader(&h); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
		if _, err := io.WriteString(t, e.Body); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
	return t.Close()
}
