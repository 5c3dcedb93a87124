package registry

import (
	"io"
	"log"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An image that go-containerregistry has made and pushed arrives whole.
func TestPullFromGoContainerRegistry(t *testing.T) {
	host := serve(t, ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	img := func(arch string) v1.Image {
		i, err := random.Image(100_000, 5)
		if err != nil {
			t.Fatal(err)
		}
		c, err := i.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		c.OS, c.Architecture = "linux", arch
		if i, err = mutate.ConfigFile(i, c); err != nil {
			t.Fatal(err)
		}
		return i
	}
	amd64, arm64 := img("amd64"), img("arm64")
	idx := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.DockerManifestList),
		mutate.IndexAddendum{Add: amd64, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}},
		mutate.IndexAddendum{Add: arm64, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}})
	tag, err := name.NewTag(host + "/a/b:v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(tag, idx); err != nil {
		t.Fatal(err)
	}

	st := openStore(t, t.TempDir())
	r, err := pull(t, hasty(t, Options{Platform: ocispec.Platform{OS: "linux", Architecture: "arm64"}}), host+"/a/b:v1", st)
	if err != nil {
		t.Fatal(err)
	}
	want, err := arm64.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if r.Image.Descriptor.Digest.String() != want.String() {
		t.Fatalf("pulled %s, want %s", r.Image.Descriptor.Digest, want)
	}
	layers, err := arm64.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range layers {
		rc, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(rc)
		if err != nil {
			t.Fatal(err)
		}
		mustHold(t, st, r.Image.Manifest.Layers[i], b)
	}
}
