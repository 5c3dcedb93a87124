package registry

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/pkg/progress"
)

func TestMissingPlatformNamesThoseThatExist(t *testing.T) {
	s, _, _ := multi()
	p := hasty(t, Options{Platform: ocispec.Platform{OS: "linux", Architecture: "riscv64"}})
	_, err := p.Resolve(t.Context(), mustParse(t, serve(t, s)+"/app"), openStore(t, t.TempDir()))
	var missing *PlatformError
	if !errors.As(err, &missing) || missing.Want != "linux/riscv64" || !slices.Equal(missing.Have, []string{"linux/amd64", "linux/arm64"}) {
		t.Fatalf("error is %v", err)
	}
}

func TestVariantRules(t *testing.T) {
	for name, c := range map[string]struct {
		asked string // "" for the host's, which is host
		host  string
		have  string
		want  string // of have; "" for none
	}{
		"amd64 takes plain amd64 before a newer variant":    {"linux/amd64", "", "linux/amd64/v3 linux/amd64", "linux/amd64"},
		"amd64/v3 takes v2 rather than v1":                  {"linux/amd64/v3", "", "linux/amd64 linux/amd64/v2", "linux/amd64/v2"},
		"amd64 asked for is not 386":                        {"linux/amd64", "", "linux/386", ""},
		"a host of amd64 runs 386 if there is nothing else": {"", "linux/amd64", "linux/386", "linux/386"},
		"arm/v7 takes v6 rather than v5":                    {"linux/arm/v7", "", "linux/arm/v5 linux/arm/v6", "linux/arm/v6"},
		"arm/v6 does not take v7":                           {"linux/arm/v6", "", "linux/arm/v7", ""},
		"arm without a variant is v7":                       {"linux/arm", "", "linux/arm/v5 linux/arm/v7", "linux/arm/v7"},
		"arm64 is arm64/v8":                                 {"linux/arm64", "", "linux/arm64/v8", "linux/arm64/v8"},
		"a host of arm64 prefers arm64 to arm":              {"", "linux/arm64", "linux/arm/v7 linux/arm64", "linux/arm64"},
		"another system is no match":                        {"linux/amd64", "", "windows/amd64", ""},
	} {
		t.Run(name, func(t *testing.T) {
			spec := c.asked + c.host
			want, err := ParsePlatform(spec)
			if err != nil {
				t.Fatal(err)
			}
			pick := newChooser(want)
			pick.asked = c.asked != ""
			idx := &ocispec.Index{}
			for have := range strings.FieldsSeq(c.have) {
				f := append(strings.Split(have, "/"), "")
				idx.Manifests = append(idx.Manifests, ocispec.Descriptor{
					MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(have),
					Platform: &ocispec.Platform{OS: f[0], Architecture: f[1], Variant: f[2]},
				})
			}
			d, err := pick.choose("app", idx)
			if c.want == "" && err == nil || c.want != "" && d.Digest != digest.FromString(c.want) {
				t.Fatalf("chose %v, %v", d.Platform, err)
			}
		})
	}
}

func TestImageWithoutIndexForAnotherPlatform(t *testing.T) {
	s := newShelf()
	s.addImage("linux/s390x", [][]byte{[]byte("x")}, "latest")
	host := serve(t, s)
	_, err := pull(t, hasty(t, Options{}), host+"/app", openStore(t, t.TempDir()))
	var missing *PlatformError
	if !errors.As(err, &missing) || !slices.Equal(missing.Have, []string{"linux/s390x"}) {
		t.Fatalf("who asks for amd64 gets %v", err)
	}
	var events recorder
	r, err := pull(t, New(Options{Progress: events.add}), host+"/app", openStore(t, t.TempDir()))
	if err != nil || r.Image.Descriptor.Platform.Architecture != "s390x" {
		t.Fatalf("who does not ask gets %v, %v", r, err)
	}
	if ws := events.all(progress.Warning); len(ws) != 1 || !strings.Contains(ws[0].Message, "linux/s390x") {
		t.Fatalf("warnings %v", ws)
	}
}

func TestWhatLiesBesideImagesIsNotChosen(t *testing.T) {
	amd64 := &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	const image = ocispec.MediaTypeImageManifest
	for name, c := range map[string]struct {
		d      ocispec.Descriptor
		chosen bool
	}{
		"an image":                       {ocispec.Descriptor{MediaType: image, Platform: amd64}, true},
		"an image without a platform":    {ocispec.Descriptor{MediaType: image}, true}, // the only one there is
		"an attestation by annotation":   {ocispec.Descriptor{MediaType: image, Platform: amd64, Annotations: map[string]string{"vnd.docker.reference.type": "attestation-manifest"}}, false},
		"an attestation by its platform": {ocispec.Descriptor{MediaType: image, Platform: &ocispec.Platform{OS: "unknown", Architecture: "unknown"}}, false},
		"another media type":             {ocispec.Descriptor{MediaType: "application/json", Platform: amd64}, false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newChooser(*amd64).choose("app", &ocispec.Index{Manifests: []ocispec.Descriptor{c.d}})
			var missing *PlatformError
			if c.chosen != (err == nil) || !c.chosen && (!errors.As(err, &missing) || len(missing.Have) != 0) {
				t.Fatalf("error is %v", err)
			}
		})
	}
}
