package layers

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Compression is how a layer's tar is packed in its blob.
type Compression string

const (
	None Compression = "none"
	Gzip Compression = "gzip"
	Zstd Compression = "zstd"
)

// ErrUnknownMediaType is returned by Open for a blob that is not a layer peel
// can read, such as an attestation or an encrypted layer.
var ErrUnknownMediaType = errors.New("not a layer media type")

// CompressionError reports a blob that is packed as no layer may be (image-spec
// layer.md knows none, gzip and zstd).
type CompressionError struct {
	Name string // of the format that its first bytes show: "xz", "bzip2", ...
}

func (e *CompressionError) Error() string {
	return fmt.Sprintf("compressed with %s, which image layers do not use", e.Name)
}

// compressionOf reads the suffix of a layer media type (image-spec
// media-types.md; docker's schema 2 has its own two names).
func compressionOf(mediaType string) (Compression, error) {
	switch mediaType {
	case ocispec.MediaTypeImageLayerGzip,
		"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", // deprecated; old images carry it
		"application/vnd.docker.image.rootfs.diff.tar.gzip",
		"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip":
		return Gzip, nil
	case ocispec.MediaTypeImageLayerZstd,
		"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd":
		return Zstd, nil
	case ocispec.MediaTypeImageLayer,
		"application/vnd.oci.image.layer.nondistributable.v1.tar",
		"application/vnd.docker.image.rootfs.diff.tar":
		return None, nil
	}
	if strings.HasPrefix(mediaType, "application/vnd.docker.image.rootfs.diff.tar.zstd") {
		return Zstd, nil
	}
	return "", fmt.Errorf("%w: %q", ErrUnknownMediaType, mediaType)
}

// magicLen is how many bytes sniff looks at.
const magicLen = 10

// sniff tells by a blob's first bytes how it is packed. A tar begins with a
// file's name, which no pattern here resembles.
func sniff(head []byte) (Compression, error) {
	starts := func(magic string) bool { return bytes.HasPrefix(head, []byte(magic)) }
	switch {
	case starts("\x1f\x8b"):
		return Gzip, nil
	case starts("\x28\xb5\x2f\xfd"),
		len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18}): // a skippable frame
		return Zstd, nil
	case starts("\xfd7zXZ\x00"):
		return "", &CompressionError{Name: "xz"}
	case starts("BZh") && len(head) >= 10 && string(head[4:10]) == "1AY&SY":
		return "", &CompressionError{Name: "bzip2"}
	case starts("\x04\x22\x4d\x18"):
		return "", &CompressionError{Name: "lz4"}
	}
	return None, nil
}
