package layout

import (
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// Style is the dress in which an image is published.
type Style int

const (
	// Gzip: OCI documents, layers by compress/gzip at its default level in one
	// stream, as docker push and BuildKit write them.
	Gzip Style = iota
	// Docker: the same layers under docker's schema 2 media types.
	Docker
	// Zstd: OCI documents, one zstd frame a layer.
	Zstd
)

// Publish writes the image of src, whose layers are plain tars, into dst in the
// given style. The config, and with it the DiffIDs, stays as it is byte for byte.
func Publish(dst, src *Dir, style Style) (ocispec.Descriptor, error) {
	m, err := src.Manifest()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	manifestType, configType, layerType := ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageLayerGzip
	switch style {
	case Docker:
		manifestType, configType, layerType = DockerManifest, DockerConfig, DockerLayer
	case Zstd:
		layerType = ocispec.MediaTypeImageLayerZstd
	}
	raw, err := os.ReadFile(src.BlobPath(m.Config.Digest))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	config, err := dst.AddBytes(configType, raw)
	if err != nil {
		return ocispec.Descriptor{}, err
	}

	layers := make([]ocispec.Descriptor, len(m.Layers))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, l := range m.Layers {
		if l.MediaType != ocispec.MediaTypeImageLayer {
			return ocispec.Descriptor{}, fmt.Errorf("layer %s is %s, not a plain tar", l.Digest, l.MediaType)
		}
		g.Go(func() (err error) {
			tarball, err := os.Open(src.BlobPath(l.Digest))
			if err != nil {
				return err
			}
			defer tarball.Close()
			layers[i], err = dst.Add(layerType, func(w io.Writer) error { return compress(w, tarball, style) })
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return ocispec.Descriptor{}, err
	}
	return dst.AddManifest(manifestType, config, layers)
}

func compress(w io.Writer, r io.Reader, style Style) error {
	var z io.WriteCloser = gzip.NewWriter(w)
	if style == Zstd {
		enc, err := zstd.NewWriter(w)
		if err != nil {
			return err
		}
		z = enc
	}
	if _, err := io.Copy(z, r); err != nil {
		return err
	}
	return z.Close()
}
