package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
	// User is docker's user[:group], looked up in the root file system when the
	// container starts; empty leaves the ids of the config.
	User       string
	StopSignal string
	AutoRemove bool
	Labels     map[string]string
	// Populate makes the root file system in a directory of the container's
	// own, which exists and is empty, and returns its path below it. The
	// container's removal removes it.
	Populate func(ctx context.Context, dir string) (rootfs string, err error)
}

// Create makes a container that does not run yet. Its config is checked whole:
// a wish that cannot be kept is an *UnsupportedError, never dropped. The spec
// is not kept. With o.Populate, root is to be empty.
func (rt *Runtime) Create(ctx context.Context, root Rootfs, spec *specs.Spec, o CreateOptions) (*Container, error) {
	if err := validate(spec); err != nil {
		return nil, err
	}
	if o.Name != "" && !validName(o.Name) {
		return nil, fmt.Errorf("container name %q: only [a-zA-Z0-9][a-zA-Z0-9_.-]* are allowed", o.Name)
	}
	id := newID()
	tmp := filepath.Join(rt.containers(), ".new-"+id)
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return nil, err
	}
	c, err := rt.create(ctx, id, tmp, root, spec, o)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(tmp))
	}
	return c, nil
}

func (rt *Runtime) create(ctx context.Context, id, tmp string, root Rootfs, spec *specs.Spec, o CreateOptions) (*Container, error) {
	if o.Populate != nil {
		dir := filepath.Join(tmp, "tree")
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, err
		}
		rootfs, err := o.Populate(ctx, dir)
		if err != nil {
			return nil, err
		}
		root = Rootfs{Dir: filepath.Join(rt.dataDir(id), "tree", rootfs)}
	}
	if len(root.Lower) > 0 {
		for _, dir := range []string{"upper", "work"} {
			if err := os.Mkdir(filepath.Join(tmp, dir), 0o755); err != nil {
				return nil, err
			}
		}
	}
	c := &Container{rt: rt, Record: Record{
		ID: id, Name: o.Name, Image: o.Image, Created: time.Now(), Root: root,
		User: o.User, StopSignal: o.StopSignal, AutoRemove: o.AutoRemove, Labels: o.Labels,
	}}
	if c.Name == "" {
		c.Name = randomName()
	}
	// What goes away by itself need not survive a power failure.
	durable := !o.AutoRemove
	if err := writeJSON(filepath.Join(tmp, "config.json"), spec, durable); err != nil {
		return nil, err
	}
	for {
		if err := writeJSON(filepath.Join(tmp, "container.json"), &c.Record, durable); err != nil {
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
	if durable {
		return c, syncDir(rt.containers())
	}
	return c, nil
}

// Remove removes a container and all that it changed. One that runs is
// ErrRunning, or killed first with force.
func (c *Container) Remove(ctx context.Context, force bool) error {
	lock, err := c.lock()
	if force && errors.Is(err, ErrRunning) {
		lock, err = c.lockKilled(ctx)
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
	return c.remove()
}

// remove needs the lock. It can be interrupted anywhere and called again.
func (c *Container) remove() error {
	if err := c.cleanUp(); err != nil {
		return err
	}
	// The directory first: what has no directory is no container, and a name
	// that leads nowhere is free.
	gone := filepath.Join(c.rt.containers(), ".gone-"+c.ID)
	if err := os.Rename(c.rt.dataDir(c.ID), gone); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	err := errors.Join(c.rt.release(c.Name, c.ID), os.RemoveAll(gone))
	// The lock file last: it is what keeps others out.
	return errors.Join(err, os.RemoveAll(c.rt.runDir(c.ID)))
}
