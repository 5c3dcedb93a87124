package bundle

import (
	"reflect"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The config that is made of a bundle makes a bundle with the same process.
func TestConfigIsTheWayBack(t *testing.T) {
	created := time.Unix(1e9, 5).UTC()
	p := ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8", OSVersion: "6", OSFeatures: []string{"a", "b"}}
	for name, img := range map[string]ocispec.Image{
		"nothing": {},
		"everything": {Platform: p, Author: "me", Created: &created, Config: ocispec.ImageConfig{
			Entrypoint: []string{"/e"}, Cmd: []string{"a", "b c"}, Env: []string{"A=1", "PATH=/bin"}, WorkingDir: "/srv", User: "nginx", StopSignal: "SIGQUIT",
			ExposedPorts: map[string]struct{}{"80/tcp": {}, "53/udp": {}}, Labels: map[string]string{"a": "b", "org.opencontainers.image.title": "t"},
		}},
		"a user with a group": {Platform: p, Config: ocispec.ImageConfig{User: "nginx:www", Env: []string{"HOME=/x", "B=2"}}},
		"ids":                 {Platform: p, Config: ocispec.ImageConfig{User: "1000:1001"}},
		"root of a group":     {Platform: p, Config: ocispec.ImageConfig{User: "0:33"}},
	} {
		want := mustSpec(t, img, Options{})
		got := mustSpec(t, Config(want, ocispec.Platform{OS: "linux", Architecture: "amd64"}), Options{})
		if img.OS == "" {
			if got.Annotations["org.opencontainers.image.architecture"] != "amd64" {
				t.Errorf("%s: annotations %v", name, got.Annotations)
			}
			got.Annotations = want.Annotations
		}
		if !reflect.DeepEqual(got.Process, want.Process) {
			t.Errorf("%s: process\n%+v\nwant\n%+v", name, got.Process, want.Process)
		}
		if !reflect.DeepEqual(got.Annotations, want.Annotations) {
			t.Errorf("%s: annotations\n%v\nwant\n%v", name, got.Annotations, want.Annotations)
		}
	}
}
