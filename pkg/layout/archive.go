package layout

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Archive writes the image as a layout in one tar, what skopeo calls oci-archive.
// All of its blobs have been added. The same image gives the same bytes.
func (s *Stage) Archive(w io.Writer, d ocispec.Descriptor, tag string) error {
	if err := s.finish(d, tag); err != nil {
		return err
	}
	blobs, err := os.ReadDir(blobsIn(s.tree())) // sorted
	if err != nil {
		return err
	}
	names := []string{ocispec.ImageLayoutFile, ocispec.ImageIndexFile, ocispec.ImageBlobsDir + "/", ocispec.ImageBlobsDir + "/sha256/"}
	for _, b := range blobs {
		names = append(names, ocispec.ImageBlobsDir+"/sha256/"+b.Name())
	}
	t := tar.NewWriter(w)
	for _, name := range names {
		if err := s.archiveOne(t, name); err != nil {
			return err
		}
	}
	return t.Close()
}

func (s *Stage) archiveOne(t *tar.Writer, name string) (err error) {
	if name[len(name)-1] == '/' {
		return t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: dirMode})
	}
	f, err := os.Open(filepath.Join(s.tree(), name))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: blobMode, Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{t}, struct{ io.Reader }{f}, make([]byte, 1<<20))
	return err
}
