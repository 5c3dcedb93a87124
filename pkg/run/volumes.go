package run

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// A volume is a directory that outlives the containers it is mounted in. It is
// volumes/NAME/_data, as docker has it; there is nothing else to know of it. Which
// containers have it, they say themselves.
//
// volumes/.lock is held by whoever makes a container with volumes, until that is
// there, and by whoever removes volumes.

// Volume is one volume.
type Volume struct {
	Name    string    `json:"name"`
	Dir     string    `json:"dir"` // its content
	Created time.Time `json:"created"`
}

// VolumeUse is a volume in a container.
type VolumeUse struct {
	Name        string `json:"name"`
	Destination string `json:"destination"`
	// Anonymous: it was made for the container.
	Anonymous bool `json:"anonymous,omitempty"`
	// Fill: an empty one gets what the image has at Destination.
	Fill bool `json:"fill,omitempty"`
}

// VolumeInUseError is a volume that a container has.
type VolumeInUseError struct{ Name, ID string }

func (e *VolumeInUseError) Error() string {
	return fmt.Sprintf("volume %s is in use by container %.12s", e.Name, e.ID)
}

// ErrNoVolume is a name that no volume has.
var ErrNoVolume = errors.New("no such volume")

func (rt *Runtime) volumes() string { return filepath.Join(rt.data, "volumes") }

func (rt *Runtime) volumeData(name string) string {
	return filepath.Join(rt.volumes(), name, "_data")
}

func (rt *Runtime) lockVolumes() (*os.File, error) {
	if err := os.MkdirAll(rt.volumes(), 0o700); err != nil {
		return nil, err
	}
	return lockFile(filepath.Join(rt.volumes(), ".lock"), true)
}

// CreateVolume makes a volume, unless there is one of that name. An empty name gives
// it one.
func (rt *Runtime) CreateVolume(name string) (Volume, error) {
	lock, err := rt.lockVolumes()
	if err != nil {
		return Volume{}, err
	}
	defer lock.Close()
	if name == "" {
		name = newID()
	}
	if _, err := rt.makeVolume(name); err != nil {
		return Volume{}, err
	}
	return rt.Volume(name)
}

// makeVolume says whether there was none. The lock is held.
func (rt *Runtime) makeVolume(name string) (made bool, err error) {
	if !validName(name) {
		return false, fmt.Errorf("volume name %q: only [a-zA-Z0-9][a-zA-Z0-9_.-]* are allowed", name)
	}
	dir := rt.volumeData(name)
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return false, err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		if errors.Is(err, fs.ErrExist) {
			err = nil
		}
		return false, err
	}
	return true, os.Chmod(dir, 0o755) // whatever the umask
}

// Volume finds a volume by its name. ErrNoVolume.
func (rt *Runtime) Volume(name string) (Volume, error) {
	fail := fmt.Errorf("%s: %w", name, ErrNoVolume)
	if !validName(name) {
		return Volume{}, fail
	}
	info, err := os.Lstat(filepath.Dir(rt.volumeData(name)))
	if errors.Is(err, fs.ErrNotExist) {
		return Volume{}, fail
	}
	if err != nil {
		return Volume{}, err
	}
	return Volume{Name: name, Dir: rt.volumeData(name), Created: info.ModTime()}, nil
}

// Volumes are all volumes by name, and UsedBy the ids of the containers that have
// them.
func (rt *Runtime) Volumes() (all []Volume, usedBy map[string][]string, err error) {
	entries, err := os.ReadDir(rt.volumes())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	for _, e := range entries {
		v, err := rt.Volume(e.Name())
		if errors.Is(err, ErrNoVolume) {
			continue // the lock, or removed meanwhile
		}
		if err != nil {
			return nil, nil, err
		}
		all = append(all, v)
	}
	containers, err := rt.List()
	if err != nil {
		return nil, nil, err
	}
	usedBy = map[string][]string{}
	for _, c := range containers {
		for _, u := range c.VolumeUses {
			usedBy[u.Name] = append(usedBy[u.Name], c.ID)
		}
	}
	return all, usedBy, nil
}

// RemoveVolume removes a volume and its content. ErrNoVolume, *VolumeInUseError.
func (rt *Runtime) RemoveVolume(name string) error {
	lock, err := rt.lockVolumes()
	if err != nil {
		return err
	}
	defer lock.Close()
	if _, err := rt.Volume(name); err != nil {
		return err
	}
	_, usedBy, err := rt.Volumes()
	if err != nil {
		return err
	}
	if ids := usedBy[name]; len(ids) > 0 {
		return &VolumeInUseError{name, ids[0]}
	}
	return RemoveTree(filepath.Join(rt.volumes(), name))
}

// RemoveVolumes removes the volumes that were made for the container, which is gone
// itself, but for those that another container has.
func (c *Container) RemoveVolumes() error {
	var failed error
	for _, u := range c.VolumeUses {
		if !u.Anonymous {
			continue
		}
		err := c.rt.RemoveVolume(u.Name)
		if inUse := (*VolumeInUseError)(nil); errors.Is(err, ErrNoVolume) || errors.As(err, &inUse) {
			continue
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

// typeVolume is the type of a mount whose source is the name of a volume; without a
// source it is one of the container's own.
const typeVolume = "volume"

// placeVolumes returns a config in which volumes are bind mounts. They are made
// where missing; who then fails to make the container calls undo.
func (rt *Runtime) placeVolumes(spec *specs.Spec) (_ *specs.Spec, uses []VolumeUse, undo func() error, err error) {
	changed := *spec
	changed.Mounts = slices.Clone(spec.Mounts)
	undo = func() error {
		var failed error
		for _, u := range uses {
			if u.Anonymous {
				failed = errors.Join(failed, RemoveTree(filepath.Join(rt.volumes(), u.Name)))
			}
		}
		return failed
	}
	for i, m := range changed.Mounts {
		if m.Type != typeVolume {
			continue
		}
		u := VolumeUse{Name: m.Source, Destination: m.Destination, Anonymous: m.Source == "", Fill: !slices.Contains(m.Options, "nocopy")}
		if u.Anonymous {
			u.Name = newID()
		}
		if _, err := rt.makeVolume(u.Name); err != nil {
			return nil, nil, nil, errors.Join(err, undo())
		}
		uses = append(uses, u)
		changed.Mounts[i] = rt.bindVolume(m, u.Name)
	}
	return &changed, uses, undo, nil
}

// bindVolume is the bind mount that a mount of a volume comes to.
func (rt *Runtime) bindVolume(m specs.Mount, name string) specs.Mount {
	m.Type, m.Source = "bind", rt.volumeData(name)
	m.Options = slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return o == "nocopy" })
	if !slices.Contains(m.Options, "rbind") {
		m.Options = append(m.Options, "rbind")
	}
	return m
}

// toFill are the places whose volumes the guest fills if they are empty.
func (c *Container) toFill() []string {
	var places []string
	for _, u := range c.VolumeUses {
		if u.Fill {
			places = append(places, u.Destination)
		}
	}
	return places
}
