package store

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	hexA  = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	okM   = `{"schemaVersion":2,"config":{"digest":"sha256:` + hexA + `","size":2},"layers":[` + layer + `]}`
	layer = `{"digest":"sha256:` + hexA + `","size":1}`
	okC   = `{"rootfs":{"type":"layers","diff_ids":["sha256:` + hexA + `"]}}`
)

func TestNewImageRefuses(t *testing.T) {
	for name, c := range map[string]struct{ manifest, config, want string }{
		"nothing wrong":               {okM, okC, ""},
		"not JSON":                    {`<html>`, okC, "invalid character"},
		"an index and a manifest":     {strings.Replace(okM, `{`, `{"manifests":[],`, 1), okC, "both an index and a manifest"},
		"schema 1":                    {`{"schemaVersion":1,"fsLayers":[]}`, okC, "schema 1"},
		"no schemaVersion":            {strings.Replace(okM, `2`, `3`, 1), okC, "schemaVersion 3"},
		"another media type":          {strings.Replace(okM, `{`, `{"mediaType":"text/plain",`, 1), okC, `calls itself "text/plain"`},
		"a digest that is a path":     {strings.Replace(okM, hexA, `../../etc/passwd`, 1), okC, "invalid checksum digest"},
		"a short digest":              {strings.Replace(okM, hexA, hexA[1:], 1), okC, "invalid checksum digest"},
		"an upper-case digest":        {strings.Replace(okM, hexA, strings.ToUpper(hexA), 1), okC, "invalid checksum digest"},
		"an unknown algorithm":        {strings.Replace(okM, "sha256", "md5", 1), okC, "not a sha256 digest"},
		"sha512":                      {strings.Replace(okM, "sha256:"+hexA, "sha512:"+hexA+hexA, 1), okC, "not a sha256 digest"},
		"a negative size":             {strings.Replace(okM, `"size":1`, `"size":-1`, 1), okC, "layers[0]: size -1"},
		"a layer that comes twice":    {strings.Replace(okM, layer, layer+","+layer, 1), strings.Replace(okC, `[`, `["sha256:`+hexA+`",`, 1), ""},
		"a layer of two sizes":        {strings.Replace(okM, layer, layer+","+strings.Replace(layer, `1}`, `9}`, 1), 1), okC, "layers[1]: sha256:" + hexA + " has 9 bytes here and 1 before"},
		"more layers than can be":     {strings.Replace(okM, layer, layer+strings.Repeat(","+layer, maxLayers), 1), okC, "1025 layers, the limit is 1024"},
		"more diff_ids than layers":   {okM, strings.Replace(okC, `[`, `["sha256:`+hexA+`",`, 1), "2 diff_ids for 1 layers"},
		"fewer diff_ids than layers":  {okM, `{}`, "0 diff_ids for 1 layers"},
		"a DiffID that is no digest":  {okM, strings.Replace(okC, hexA, "x", 1), "diff_ids[0]"},
		"a config that is not JSON":   {okM, `[`, "config sha256:"},
		"a config of the wrong shape": {okM, `{"rootfs":7}`, "config sha256:"},
	} {
		t.Run(name, func(t *testing.T) {
			d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(c.manifest), Size: int64(len(c.manifest))}
			_, err := NewImage(d, []byte(c.manifest), []byte(c.config))
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Fatalf("error is %v, want %q", err, c.want)
			}
		})
	}
}

func FuzzNewImage(f *testing.F) {
	f.Add([]byte(okM), []byte(okC))
	f.Fuzz(func(t *testing.T, manifest, config []byte) {
		d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(manifest), Size: int64(len(manifest))}
		img, err := NewImage(d, manifest, config)
		if err != nil {
			return
		}
		if len(img.Manifest.Layers) != len(img.Config.RootFS.DiffIDs) {
			t.Fatal("layers and diff_ids differ in number")
		}
		for _, l := range append(img.Manifest.Layers, img.Manifest.Config) {
			if hex := l.Digest.Encoded(); len(hex) != 64 || strings.ContainsAny(hex, "/.") || l.Size < 0 {
				t.Fatalf("descriptor %+v was let through", l)
			}
		}
	})
}
