package images

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/e2e/layout"
	"peel/e2e/tars"
)

// multi is an index as BuildKit pushes it: a small image for each of two
// platforms and, after each, an attestation.
func multi(ctx context.Context, _ *Cache, dst *layout.Dir) (ocispec.Descriptor, error) {
	var idx []ocispec.Descriptor
	for _, arch := range []string{"amd64", "arm64"} {
		binary, err := hello(ctx, dst.Path, arch)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		files := []tars.Entry{tars.Dir("bin"), tars.File("bin/hello", binary).Mode(0o755), tars.File("arch", arch+"\n")}
		desc, err := tars.Image(dst, arch, ocispec.ImageConfig{Entrypoint: []string{"/bin/hello"}}, files)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		desc.Platform = &ocispec.Platform{OS: "linux", Architecture: arch}
		if arch == "arm64" {
			desc.Platform.Variant = "v8"
		}
		att, err := attestation(dst, desc.Digest)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		idx = append(idx, desc, att)
	}
	return addIndex(dst, idx)
}

// hello builds a static program for the architecture.
func hello(ctx context.Context, tmp, arch string) (_ string, err error) {
	src := filepath.Join(tmp, ".hello")
	if err := os.Mkdir(src, 0o755); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(src)) }()
	const program = "package main\n\nimport \"runtime\"\n\nfunc main() { println(\"hello from \" + runtime.GOARCH) }\n"
	if err := os.WriteFile(filepath.Join(src, "main.go"), []byte(program), 0o644); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w -buildid=", "-o", "hello", "main.go")
	cmd.Dir = src
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.Join(err, errors.New(string(out)))
	}
	b, err := os.ReadFile(filepath.Join(src, "hello"))
	return string(b), err
}

// index is the recipe of an image as public hubs serve it: an index that has
// the image of another recipe for the host's platform, and its attestation.
func index(of recipe) recipe {
	return func(ctx context.Context, c *Cache, dst *layout.Dir) (ocispec.Descriptor, error) {
		desc, err := of(ctx, c, dst)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		desc.Platform = &ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
		if runtime.GOARCH == "arm64" {
			desc.Platform.Variant = "v8"
		}
		att, err := attestation(dst, desc.Digest)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		return addIndex(dst, []ocispec.Descriptor{desc, att})
	}
}

func addIndex(dst *layout.Dir, manifests []ocispec.Descriptor) (ocispec.Descriptor, error) {
	return dst.AddJSON(ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: manifests,
	})
}

// attestation adds a manifest that only looks like an image's: its platform is
// unknown/unknown and its layers are statements about the image called of.
func attestation(dst *layout.Dir, of digest.Digest) (ocispec.Descriptor, error) {
	statement, err := dst.AddJSON("application/vnd.in-toto+json", map[string]any{
		"_type":         "https://in-toto.io/Statement/v0.1",
		"predicateType": "https://slsa.dev/provenance/v0.2",
		"subject":       []any{map[string]any{"name": "image", "digest": map[string]string{"sha256": of.Encoded()}}},
	})
	if err != nil {
		return statement, err
	}
	config := ocispec.Image{Platform: ocispec.Platform{OS: "unknown", Architecture: "unknown"}}
	config.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{statement.Digest}}
	desc, err := dst.AddImage(config, []ocispec.Descriptor{statement})
	desc.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	desc.Annotations = map[string]string{
		"vnd.docker.reference.type":   "attestation-manifest",
		"vnd.docker.reference.digest": of.String(),
	}
	return desc, err
}
