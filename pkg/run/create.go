package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// CreateOptions are what a container has beside its config. The zero value is
// right.
type CreateOptions struct {
	// Name is unique among containers; empty gives one.
	Name string
	// Image is shown by ps.
	Image string
	// Bundle is the directory that the config is from; empty where it is from none.
	Bundle string
	// User is docker's user[:group], looked up in the root file system when the
	// container starts; empty leaves the ids of the config.
	User       string
	StopSignal string
	// StopTimeout is how many seconds Grace gives, for ever if negative; nil is
	// ten.
	StopTimeout *int
	AutoRemove  bool
	// Restart says when it is started again, which excludes AutoRemove.
	Restart RestartPolicy
	// OpenStdin keeps an input open for those who attach.
	OpenStdin bool
	// Init gives the container a first process that is not its program: see
	// package pid1.
	Init   bool
	Labels map[string]string
	// Files are files of the container's own, by their place in it: name
	// resolution and the like. Each is mounted there.
	Files map[string]string
	// Tree is the image's tree, for one who has it open: it spares opening it
	// again. It stays the caller's.
	Tree *Tree
	// Populate makes the root file system, and the config for it, in a directory
	// of the container's own, which exists and is empty. The container's removal
	// removes it.
	Populate func(ctx context.Context, dir string) (Populated, error)
}

// Populated is a root file system that CreateOptions.Populate has made.
type Populated struct {
	Rootfs string // its path below the directory
	Spec   *specs.Spec
	// StopSignal counts where CreateOptions have none.
	StopSignal string
}

// Create makes a container that does not run yet. Its config is checked whole:
// a wish that cannot be kept is an *UnsupportedError, never dropped. The spec
// must not change until the container has been started or let go. With o.Populate, root is to be empty and spec nil.
func (rt *Runtime) Create(ctx context.Context, root Rootfs, spec *specs.Spec, o CreateOptions) (*Container, error) {
	if o.Populate == nil {
		if err := validate(spec); err != nil {
			return nil, err
		}
	}
	if o.AutoRemove && !o.Restart.Never() {
		return nil, errors.New("a container that removes itself cannot be started again")
	}
	if o.Name != "" {
		if err := checkName(o.Name); err != nil {
			return nil, err
		}
	}
	rt.sweepEnded() // one of them may have the name
	id, tmp, lock, err := rt.newDir()
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	tree, err := rt.treeOf(root, o.Tree)
	if err == nil {
		o.Tree = tree
		c, cerr := rt.create(ctx, id, tmp, root, spec, o)
		if cerr == nil {
			c.tree.Store(tree)
			return c, nil
		}
		err = cerr
		if tree != nil {
			tree.Close()
		}
	}
	return nil, errors.Join(err, RemoveTree(tmp))
}

func (rt *Runtime) create(ctx context.Context, id, tmp string, root Rootfs, spec *specs.Spec, o CreateOptions) (*Container, error) {
	if o.Populate != nil {
		dir := filepath.Join(tmp, "tree")
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, err
		}
		tree, err := o.Populate(ctx, dir)
		if err == nil {
			err = validate(tree.Spec)
		}
		if err != nil {
			return nil, err
		}
		root, spec = Rootfs{Dir: filepath.Join(rt.dataDir(id), "tree", tree.Rootfs)}, tree.Spec
		if o.StopSignal == "" {
			o.StopSignal = tree.StopSignal
		}
	}
	if o.StopSignal != "" {
		// The image's word, perhaps. It would be missed when it is too late.
		if _, err := ParseSignal(o.StopSignal); err != nil {
			return nil, fmt.Errorf("stop signal: %w", err)
		}
	}
	if root.overlaid() {
		if err := makeOverlay(tmp, root, o.Tree); err != nil {
			return nil, err
		}
	}
	spec, err := rt.writeFiles(id, tmp, spec, o.Files)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(spec.Mounts, func(m specs.Mount) bool { return m.Type == typeVolume }) {
		return rt.record(id, tmp, root, spec, nil, o)
	}
	lock, err := rt.lockVolumes()
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	spec, volumes, undo, err := rt.placeVolumes(spec)
	if err != nil {
		return nil, err
	}
	c, err := rt.record(id, tmp, root, spec, volumes, o)
	if err != nil {
		return nil, errors.Join(err, undo())
	}
	return c, nil
}

// record writes the container's files and gives it its name.
func (rt *Runtime) record(id, tmp string, root Rootfs, spec *specs.Spec, volumes []VolumeUse, o CreateOptions) (*Container, error) {
	c := &Container{rt: rt, Record: Record{
		Args: spec.Process.Args, ID: id, Name: o.Name, Image: o.Image, Created: time.Now(), Root: root,
		User: o.User, StopSignal: o.StopSignal, StopTimeout: o.StopTimeout, AutoRemove: o.AutoRemove, Labels: o.Labels,
		Restart: o.Restart, OpenStdin: o.OpenStdin, Init: o.Init, VolumeUses: volumes, Bundle: o.Bundle,
	}}
	if c.Name == "" {
		c.Name = randomName()
	}
	// What goes away by itself need not survive a power failure.
	durable := !o.AutoRemove
	if err := newJSON(filepath.Join(tmp, "config.json"), spec, durable); err != nil {
		return nil, err
	}
	for {
		if err := newJSON(filepath.Join(tmp, "container.json"), &c.Record, durable); err != nil {
			return nil, err
		}
		if err := os.Rename(tmp, rt.dataDir(id)); err != nil {
			return nil, err
		}
		err := rt.claim(c.Name, id)
		if err == nil {
			break
		}
		// Back, for another try or for the caller to remove.
		if rerr := os.Rename(rt.dataDir(id), tmp); rerr != nil {
			return nil, errors.Join(err, rerr)
		}
		if inUse := (*NameInUseError)(nil); o.Name != "" || !errors.As(err, &inUse) {
			return nil, err
		}
		c.Name = randomName() + "_" + id[:4]
	}
	c.spec.Store(spec)
	if durable {
		return c, syncDir(rt.containers())
	}
	return c, nil
}

// writeFiles makes the container's own files and returns a config that mounts
// them.
func (rt *Runtime) writeFiles(id, tmp string, spec *specs.Spec, files map[string]string) (*specs.Spec, error) {
	if len(files) == 0 {
		return spec, nil
	}
	changed, places := rt.placeFiles(id, spec, files)
	if err := os.Mkdir(filepath.Join(tmp, ownFiles), 0o755); err != nil {
		return nil, err
	}
	for _, place := range places {
		f, err := os.OpenFile(filepath.Join(tmp, ownFiles, filepath.Base(place)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return nil, err
		}
		_, err = f.WriteString(files[place])
		if err == nil {
			err = f.Chmod(0o644) // whatever the umask
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
	}
	return changed, nil
}

// ownFiles is where a container's own files are, in its directory.
const ownFiles = "files"

// placeFiles returns a config that mounts files, and the places at which it does:
// those at which somebody has another file in mind are left out.
func (rt *Runtime) placeFiles(id string, spec *specs.Spec, files map[string]string) (*specs.Spec, []string) {
	changed := *spec
	changed.Mounts = slices.Clone(spec.Mounts)
	var places []string
	for _, place := range slices.Sorted(maps.Keys(files)) {
		if slices.ContainsFunc(spec.Mounts, func(m specs.Mount) bool { return filepath.Clean(m.Destination) == place }) {
			continue
		}
		places = append(places, place)
		changed.Mounts = append(changed.Mounts, specs.Mount{
			Destination: place, Type: "bind", Source: filepath.Join(rt.dataDir(id), ownFiles, filepath.Base(place)), Options: []string{"rbind", "rprivate"},
		})
	}
	return &changed, places
}

// Plan checks a config as Create does and returns it as a container would have it,
// with NEW for names that are not given yet. Nothing is made.
func (rt *Runtime) Plan(spec *specs.Spec, o CreateOptions) (*specs.Spec, error) {
	if err := validate(spec); err != nil {
		return nil, err
	}
	changed, _ := rt.placeFiles("NEW", spec, o.Files)
	for i, m := range changed.Mounts {
		if m.Type == typeVolume {
			changed.Mounts[i] = rt.bindVolume(m, cmp.Or(m.Source, "NEW"))
		}
	}
	return changed, nil
}

// Remove removes a container and all that it changed but its volumes: those go by
// RemoveVolumes, or by themselves with AutoRemove. One that runs is
// ErrRunning, or killed first with force.
func (c *Container) Remove(ctx context.Context, force bool) error {
	lock, err := c.lock()
	if force && errors.Is(err, ErrRunning) {
		lock, err = c.lockKilled(ctx)
	}
	if errors.Is(err, ErrNotFound) {
		return nil // it has removed itself
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	s, err := c.Status()
	if err != nil {
		return err
	}
	if s.Phase == Running { // by itself: nobody waits for it
		if !force {
			return ErrRunning
		}
		if err := c.Kill(unix.SIGKILL); err != nil && !errors.Is(err, ErrNotRunning) {
			return err
		}
	}
	return errors.Join(c.remove(), c.rt.sweep())
}

// remove needs the lock. It can be interrupted anywhere and called again.
func (c *Container) remove() error {
	if err := c.cleanUp(); err != nil {
		return err
	}
	name := c.Name
	if now, err := c.rt.load(c.ID); err == nil {
		name = now.Name // it may have another by now
	}
	// The directory first: what has no directory is no container, and a name
	// that leads nowhere is free.
	gone := filepath.Join(c.rt.containers(), gonePrefix+c.ID)
	if err := os.Rename(c.rt.dataDir(c.ID), gone); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	err := errors.Join(c.rt.release(name, c.ID), RemoveTree(gone))
	// The lock file last: it is what keeps others out.
	err = errors.Join(err, c.rt.removeRunDir(c.ID))
	if c.AutoRemove {
		err = errors.Join(err, c.RemoveVolumes())
	}
	return err
}
