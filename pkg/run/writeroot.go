package run

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"peel/pkg/run/internal/mountfd"
)

// WritableRoot is a container's root directory for one who writes there.
type WritableRoot struct {
	*os.File
	lock *os.File // nil while the container runs
}

// Close lets go of it. What was written is the container's.
func (r *WritableRoot) Close() error {
	err := r.File.Close()
	if r.lock != nil {
		err = errors.Join(err, r.lock.Close())
	}
	return err
}

// OpenWritableRoot is OpenRoot for one who writes there. A container that does not run
// cannot be started before it is closed: two mounts of one overlay would not know
// of each other's changes.
func (c *Container) OpenWritableRoot() (*WritableRoot, error) {
	lock, err := c.lock()
	if errors.Is(err, ErrRunning) {
		root, err := c.liveRoot()
		if err != nil {
			return nil, err
		}
		return &WritableRoot{File: root}, nil
	}
	if err != nil {
		return nil, err
	}
	root, err := c.openHeld()
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &WritableRoot{root, lock}, nil
}

// openHeld opens the root for writing. It needs the lock.
func (c *Container) openHeld() (*os.File, error) {
	if _, err := os.Lstat(c.rt.recordFile(c.ID)); err != nil {
		// Removed between the caller's look and the lock.
		return nil, errors.Join(fmt.Errorf("%.12s: %w", c.ID, ErrNotFound), os.RemoveAll(c.rt.runDir(c.ID)))
	}
	root, err := c.liveRoot() // of one whose monitor was killed
	if !errors.Is(err, ErrNotRunning) {
		return root, err
	}
	if !c.Root.overlaid() {
		return os.OpenFile(c.Root.Dir, openRootFlags, 0)
	}
	r := c.root()
	if r.Volatile {
		if err := mountfd.ClearVolatile(r.Work); err != nil {
			return nil, err
		}
	}
	return c.overlayRoot(true)
}

// liveRoot opens the root of a container that runs. ErrNotRunning.
func (c *Container) liveRoot() (*os.File, error) {
	fd, st, err := c.pidfd()
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	root, err := os.OpenFile(fmt.Sprintf("/proc/%d/root", st.Pid), openRootFlags, 0)
	if err != nil {
		return nil, err
	}
	// Still the same process: then the number was its own all along.
	if err := unix.PidfdSendSignal(fd, 0, nil, 0); err != nil {
		root.Close()
		return nil, ErrNotRunning
	}
	return root, nil
}
