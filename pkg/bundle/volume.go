package bundle

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// TypeVolume is the type of a mount whose source is the name of a volume, or empty
// for one that is made for the container. It is for package run to put the
// volume's directory there; no runtime knows it.
const TypeVolume = "volume"

// place puts m where it takes effect: in place of a mount at the same destination,
// as in docker, and before those below it.
func place(mounts []specs.Mount, m specs.Mount) []specs.Mount {
	at := path.Clean(m.Destination)
	mounts = slices.DeleteFunc(mounts, func(have specs.Mount) bool { return path.Clean(have.Destination) == at })
	i := slices.IndexFunc(mounts, func(have specs.Mount) bool {
		return strings.HasPrefix(path.Clean(have.Destination), at+"/")
	})
	if i < 0 {
		return append(mounts, m)
	}
	return slices.Insert(mounts, i, m)
}

// PlaceVolumes adds a volume for each place that an image declares as one, unless
// something else is mounted there.
func PlaceVolumes(spec *specs.Spec, c ocispec.ImageConfig) {
	for _, declared := range slices.Sorted(maps.Keys(c.Volumes)) {
		// Whatever it says, it is meant inside the root (CVE-2022-23648).
		at := path.Clean("/" + declared)
		there := func(m specs.Mount) bool { return path.Clean(m.Destination) == at }
		if at != "/" && !slices.ContainsFunc(spec.Mounts, there) {
			spec.Mounts = place(spec.Mounts, specs.Mount{Type: TypeVolume, Destination: at})
		}
	}
}

// ParseVolume reads docker's -v [SOURCE:]TARGET[:OPTIONS]. A SOURCE that begins with
// "." or "/" is a path of the host, which becomes absolute; any other is the name of
// a volume, as is none.
func ParseVolume(word string) (specs.Mount, error) {
	fail := func(why string) (specs.Mount, error) {
		return specs.Mount{}, fmt.Errorf("volume %q: %s", word, why)
	}
	parts := strings.Split(word, ":")
	if len(parts) == 1 {
		parts = []string{"", word}
	} else if parts[0] == "" {
		return fail("SOURCE is empty")
	}
	if len(parts) > 3 {
		return fail("want [SOURCE:]TARGET[:OPTIONS]")
	}
	m := specs.Mount{Type: TypeVolume, Source: parts[0], Options: []string{"rbind"}}
	if strings.HasPrefix(m.Source, "/") || strings.HasPrefix(m.Source, ".") {
		m.Type = "bind"
		var err error
		if m.Source, err = filepath.Abs(m.Source); err != nil {
			return specs.Mount{}, err
		}
	}
	if err := setTarget(&m, parts[1]); err != nil {
		return fail(err.Error())
	}
	if len(parts) == 2 {
		return m, nil
	}
	for o := range strings.SplitSeq(parts[2], ",") {
		switch o {
		case "ro", "readonly":
			readOnly(&m)
		case "nocopy":
			if m.Type != TypeVolume {
				return fail("nocopy is for volumes")
			}
			m.Options = append(m.Options, o)
		case "rw", "consistent", "cached", "delegated":
			// What else could it be; and words for file sharing on macOS.
		case "z", "Z":
			if err := relabel(); err != nil {
				return fail(err.Error())
			}
		case "rprivate", "private", "rslave", "slave", "rshared", "shared", "nosuid", "nodev", "noexec":
			m.Options = append(m.Options, o)
		default:
			return fail(fmt.Sprintf("option %q is not supported", o))
		}
	}
	return m, nil
}

// relabel is the wish for SELinux labels that the container may use: without SELinux
// it is kept by doing nothing.
func relabel() error {
	if _, err := os.Stat("/sys/fs/selinux/enforce"); err != nil {
		return nil
	}
	return errors.New("z and Z are not supported: label the directory with 'chcon -Rt container_file_t'")
}

// ParseTmpfs reads docker's --tmpfs TARGET[:OPTIONS].
func ParseTmpfs(word string) (specs.Mount, error) {
	target, options, _ := strings.Cut(word, ":")
	m := specs.Mount{Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "noexec"}}
	if err := setTarget(&m, target); err != nil {
		return specs.Mount{}, fmt.Errorf("tmpfs %q: %w", word, err)
	}
	if options != "" {
		m.Options = append(m.Options, strings.Split(options, ",")...)
	}
	return m, nil
}

// ParseMount reads docker's --mount type=bind|volume|tmpfs,source=S,target=T,...
func ParseMount(word string) (specs.Mount, error) {
	m := specs.Mount{Type: TypeVolume, Options: []string{"rbind"}}
	fail := func(why string) (specs.Mount, error) {
		return specs.Mount{}, fmt.Errorf("mount %q: %s", word, why)
	}
	only := func(key, kind string) error {
		if m.Type != kind {
			return fmt.Errorf("%s is for type=%s", key, kind)
		}
		return nil
	}
	fields := strings.Split(word, ",")
	// The type decides what the others mean, wherever it stands.
	for _, f := range fields {
		if kind, ok := strings.CutPrefix(f, "type="); ok {
			m.Type = kind
		}
	}
	switch m.Type {
	case "bind", TypeVolume:
	case "tmpfs":
		m.Source, m.Options = "tmpfs", []string{"nosuid", "nodev", "noexec"}
	default:
		return fail(fmt.Sprintf("type %q: want bind, volume or tmpfs", m.Type))
	}
	for _, f := range fields {
		key, value, hasValue := strings.Cut(f, "=")
		var err error
		switch key {
		case "type":
		case "source", "src":
			if m.Source = value; m.Type == "tmpfs" {
				err = errors.New("a tmpfs has no source")
			}
		case "target", "destination", "dst":
			err = setTarget(&m, value)
		case "readonly", "ro":
			on := true
			if hasValue {
				on, err = strconv.ParseBool(value)
			}
			if on {
				readOnly(&m)
			}
		case "bind-propagation":
			if err = only(key, "bind"); err == nil && !slices.Contains([]string{"rprivate", "private", "rslave", "slave", "rshared", "shared"}, value) {
				err = fmt.Errorf("bind-propagation %q", value)
			}
			m.Options = append(m.Options, value)
		case "volume-nocopy":
			err = only(key, TypeVolume)
			m.Options = append(m.Options, "nocopy")
		case "tmpfs-size":
			var size int64
			if err = only(key, "tmpfs"); err == nil {
				size, err = units.RAMInBytes(value)
			}
			m.Options = append(m.Options, fmt.Sprintf("size=%d", size))
		case "tmpfs-mode":
			if err = only(key, "tmpfs"); err == nil {
				_, err = strconv.ParseUint(value, 8, 12)
			}
			m.Options = append(m.Options, "mode="+value)
		default:
			err = fmt.Errorf("%q is not supported", f)
		}
		if err != nil {
			return fail(err.Error())
		}
	}
	if m.Destination == "" {
		return fail("no target")
	}
	if m.Type == "bind" && !filepath.IsAbs(m.Source) {
		return fail("source must be an absolute path")
	}
	return m, nil
}

// setTarget takes any absolute path but the root, which the container would not see.
func setTarget(m *specs.Mount, target string) error {
	if m.Destination = path.Clean(target); !path.IsAbs(target) || m.Destination == "/" {
		return errors.New("TARGET must be an absolute path below /")
	}
	return nil
}

// readOnly makes a mount read-only, and what is mounted below its source too.
func readOnly(m *specs.Mount) {
	m.Options = append(m.Options, "ro")
	if m.Type != "tmpfs" {
		m.Options = append(m.Options, "rro")
	}
}
