package bundle

import (
	"fmt"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Config is the way back from Spec, as far as there is one: an image config for
// which Spec makes a process like s's. Where s does not say of what platform it is,
// it is p. An image's entrypoint and command have become one, its volumes are
// forgotten.
func Config(s *specs.Spec, p ocispec.Platform) ocispec.Image {
	img := ocispec.Image{Platform: p}
	const own = "org.opencontainers.image."
	get := func(name string) string { return s.Annotations[own+name] }
	if os, arch := get("os"), get("architecture"); os != "" && arch != "" {
		img.Platform = ocispec.Platform{OS: os, Architecture: arch, Variant: get("variant"), OSVersion: get("os.version")}
		if f := get("os.features"); f != "" {
			img.OSFeatures = strings.Split(f, ",")
		}
	}
	img.Author = get("author")
	if t, err := time.Parse(time.RFC3339Nano, get("created")); err == nil {
		img.Created = &t
	}
	c := &img.Config
	c.StopSignal = get("stopSignal")
	if ports := get("exposedPorts"); ports != "" {
		c.ExposedPorts = map[string]struct{}{}
		for port := range strings.SplitSeq(ports, ",") {
			c.ExposedPorts[port] = struct{}{}
		}
	}
	for name, value := range s.Annotations {
		if slices.Contains(imageFields, strings.TrimPrefix(name, own)) && strings.HasPrefix(name, own) {
			continue
		}
		if c.Labels == nil {
			c.Labels = map[string]string{}
		}
		c.Labels[name] = value
	}
	if s.Process == nil {
		return img
	}
	c.Cmd = s.Process.Args
	c.WorkingDir = s.Process.Cwd
	c.Env = slices.DeleteFunc(slices.Clone(s.Process.Env), func(v string) bool {
		return strings.HasPrefix(v, "HOSTNAME=") || strings.HasPrefix(v, "TERM=")
	})
	// Spec adds it at the end if it is not there.
	if n := len(c.Env); n > 0 && strings.HasPrefix(c.Env[n-1], "HOME=") {
		c.Env = c.Env[:n-1]
	}
	switch u := s.Process.User; {
	case u.UID == 0 && u.GID == 0:
	case slices.ContainsFunc(u.AdditionalGids, func(g uint32) bool { return g != u.GID }):
		// An image that named a group would have no others.
		c.User = fmt.Sprint(u.UID)
	default:
		c.User = fmt.Sprintf("%d:%d", u.UID, u.GID)
	}
	return img
}

// imageFields are what annotations says of the image itself (image-spec
// conversion.md).
var imageFields = []string{"os", "architecture", "variant", "os.version", "os.features", "author", "created", "stopSignal", "exposedPorts"}
