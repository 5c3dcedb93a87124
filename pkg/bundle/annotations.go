package bundle

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// annotations tells what the image is (image-spec conversion.md, "Annotation
// Fields"). The image's labels are annotations too, and go over those.
func annotations(img ocispec.Image, warn func(string)) map[string]string {
	a := map[string]string{}
	set := func(name, value string) {
		if value != "" {
			a["org.opencontainers.image."+name] = value
		}
	}
	set("os", img.OS)
	set("architecture", img.Architecture)
	set("variant", img.Variant)
	set("os.version", img.OSVersion)
	set("os.features", strings.Join(img.OSFeatures, ","))
	set("author", img.Author)
	if img.Created != nil {
		set("created", img.Created.Format(time.RFC3339Nano))
	}
	set("stopSignal", img.Config.StopSignal)
	set("exposedPorts", strings.Join(slices.Sorted(maps.Keys(img.Config.ExposedPorts)), ","))
	left := map[string][]string{} // labels by the reason to leave them out
	for _, label := range slices.Sorted(maps.Keys(img.Config.Labels)) {
		if reason := unsafeLabel(label); reason == "" {
			a[label] = img.Config.Labels[label]
		} else {
			left[reason] = append(left[reason], label)
		}
	}
	for _, reason := range slices.Sorted(maps.Keys(left)) {
		if warn != nil {
			warn(fmt.Sprintf("left out of the annotations, as %s: label %s", reason, some(left[reason])))
		}
	}
	return a
}

// some names a few of what an image may have thousands of, each of any length.
func some(labels []string) string {
	const most, longest = 3, 100
	var b strings.Builder
	for i, l := range labels[:min(len(labels), most)] {
		if i > 0 {
			b.WriteString(", ")
		}
		if len(l) > longest {
			l = l[:longest] + "..."
		}
		fmt.Fprintf(&b, "%q", l)
	}
	if more := len(labels) - most; more > 0 {
		fmt.Fprintf(&b, " and %d more", more)
	}
	return b.String()
}

// steering are the prefixes of annotations that do not describe a container but
// tell a runtime what to do with it: run hooks, load files of the host, add
// devices, set properties of systemd units. Those are for whoever runs a container,
// not for the author of an image.
var steering = [...]string{
	"run.oci.",            // crun: handlers, hooks' output, groups kept
	"module.wasm.",        // crun
	"org.systemd.",        // runc, crun: properties of the unit
	"org.criu.",           // runc: a configuration file for CRIU
	"cdi.k8s.io/",         // devices and hooks by the Container Device Interface
	"io.kubernetes.cri-o", // CRI-O
	"io.katacontainers.",  // kata: paths of hypervisors and kernels
	"dev.gvisor.",         // gVisor: its flags
}

// unsafeLabel says why a label must not become an annotation, or nothing.
func unsafeLabel(label string) string {
	if label == "" {
		return "it has no name" // which runtime-spec forbids
	}
	for _, prefix := range steering {
		if strings.HasPrefix(label, prefix) {
			return "it would steer the runtime"
		}
	}
	return ""
}
