package run

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Container is one container of a Runtime, running or not.
type Container struct {
	// Record is what was decided when it was created.
	Record
	rt *Runtime
	// tree is the opened tree of Root.Image, for whoever needs it first.
	tree atomic.Pointer[Tree]
	// spec is what config.json holds, for the first start.
	spec atomic.Pointer[specs.Spec]
}

// Record is the file container.json.
type Record struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Image is the reference it was made from, or the bundle's directory.
	Image   string    `json:"image"`
	Created time.Time `json:"created"`
	// Bundle is the directory that the config is from, for its hooks.
	Bundle string `json:"bundle,omitempty"`
	// Args is the command, as the config has it.
	Args []string `json:"args"`
	Root Rootfs   `json:"root"`
	// User is docker's user[:group]; empty where the config has ids.
	User string `json:"user,omitempty"`
	// StopSignal is what Stop sends first; empty is SIGTERM.
	StopSignal string `json:"stopSignal,omitempty"`
	// StopTimeout is how many seconds Stop gives if it is not told, for ever if
	// negative; nil is ten.
	StopTimeout *int `json:"stopTimeout,omitempty"`
	// AutoRemove removes the container when it ends.
	AutoRemove bool `json:"autoRemove,omitempty"`
	// Restart says when the monitor starts it again.
	Restart RestartPolicy `json:"restart,omitzero"`
	// OpenStdin keeps an input open for those who attach.
	OpenStdin bool `json:"openStdin,omitempty"`
	// Init: its first process buries the dead and passes signals on.
	Init       bool              `json:"init,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	VolumeUses []VolumeUse       `json:"volumes,omitempty"`
}

// Rootfs is where a container's root file system comes from: one of a directory
// used in place, layers under an overlay, and an image under an overlay. An
// overlay keeps the container's changes in the container's own directory.
type Rootfs struct {
	// Dir is used as it is, and written to.
	Dir string `json:"dir,omitempty"`
	// Lower are read-only trees in overlay form, the topmost first.
	Lower []string `json:"lower,omitempty"`
	// Image is mounted for each run anew: see Options.FindImage. With Lower, those
	// are its files, and nothing is mounted.
	Image *Image `json:"image,omitempty"`
}

// Mounts tells whether the image is mounted, and not there as files.
func (r Rootfs) Mounts() bool { return r.Image != nil && len(r.Lower) == 0 }

// Phase is where a container is in its life.
type Phase string

const (
	Created Phase = "created"
	Running Phase = "running"
	Exited  Phase = "exited"
	// Restarting is between two runs: it has ended, and is about to be started
	// again.
	Restarting Phase = "restarting"
)

// Status is what is known of a container at one moment.
type Status struct {
	Phase Phase
	// Pid is the first process, as the host counts, while Phase is Running.
	Pid int
	// Unattended: it runs, but who waited for it is gone. Its exit code and
	// its output are lost.
	Unattended bool
	LastRun
}

// LastRun is the file exit.json: the present or the last run of a container.
type LastRun struct {
	Started  time.Time `json:"started,omitzero"`
	Finished time.Time `json:"finished,omitzero"`
	// Code is the exit code, 128+n after signal n. It is 255 after an end that
	// nobody saw.
	Code      int    `json:"code"`
	OOMKilled bool   `json:"oomKilled,omitempty"`
	Error     string `json:"error,omitempty"` // why it could not start
	// Warnings tell of hooks that have failed after the end.
	Warnings []string `json:"warnings,omitempty"`
	// RestartCount is how often the policy has started it again since somebody
	// started it.
	RestartCount int `json:"restartCount,omitempty"`
}

// state is the file state.json of a running container, or of one on its way: then
// Pid is 0.
type state struct {
	// Boot is the kernel's boot_id: pids and births of another boot name nothing.
	Boot    string            `json:"boot"`
	Pid     int               `json:"pid"`
	Birth   uint64            `json:"birth"` // tells it from a later process of the same pid
	Cgroups map[string]string `json:"cgroups,omitempty"`
	// Restarting: by policy, between two runs or on its way to the next.
	Restarting bool `json:"restarting,omitempty"`
}

// between says that the container is between two runs.
func (st state) between() bool { return st.Restarting && len(st.Cgroups) == 0 && st.Pid == 0 }

// state reads state.json. Where there is none, or one of before a reboot, the
// error is fs.ErrNotExist.
func (c *Container) state() (st state, err error) {
	if err := readJSON(c.rt.stateFile(c.ID), &st); err != nil {
		return state{}, err
	}
	boot, err := bootID()
	if err != nil {
		return state{}, err
	}
	if st.Boot != boot {
		return state{}, fmt.Errorf("state of before the last reboot: %w", fs.ErrNotExist)
	}
	return st, nil
}

// setState writes state.json.
func (c *Container) setState(st state) (err error) {
	if st.Boot, err = bootID(); err != nil {
		return err
	}
	return writeJSON(c.rt.stateFile(c.ID), &st, false)
}

// dropState removes state.json.
func (c *Container) dropState() error {
	err := os.Remove(c.rt.stateFile(c.ID))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}

// unseenExit is the exit code of a run whose end nobody saw.
const unseenExit = 255

// Get finds a container by its name, its id, or the beginning of its id that
// fits no other.
func (rt *Runtime) Get(name string) (*Container, error) {
	if !validName(name) {
		return nil, fmt.Errorf("%q: %w", name, ErrNotFound)
	}
	if id, err := os.Readlink(rt.nameLink(name)); err == nil && isID(id) {
		c, err := rt.load(id)
		if err == nil || !errors.Is(err, ErrNotFound) {
			return c, err
		}
	}
	if isID(name) {
		return rt.load(name)
	}
	ids, err := rt.ids()
	if err != nil {
		return nil, err
	}
	var found string
	for _, id := range ids {
		if !strings.HasPrefix(id, name) {
			continue
		}
		if found != "" {
			return nil, &AmbiguousError{name}
		}
		found = id
	}
	if found == "" {
		return nil, fmt.Errorf("%s: %w", name, ErrNotFound)
	}
	return rt.load(found)
}

// List returns all containers, the newest first. One that is removed meanwhile
// is left out.
func (rt *Runtime) List() ([]*Container, error) {
	ids, err := rt.ids()
	if err != nil {
		return nil, err
	}
	var all []*Container
	for _, id := range ids {
		c, err := rt.load(id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	slices.SortStableFunc(all, func(a, b *Container) int { return b.Created.Compare(a.Created) })
	return all, nil
}

func (rt *Runtime) ids() ([]string, error) {
	d, err := os.Open(rt.containers())
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(names, func(n string) bool { return !isID(n) }), nil
}

func (rt *Runtime) load(id string) (*Container, error) {
	c := &Container{rt: rt}
	err := readJSON(rt.recordFile(id), &c.Record)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%.12s: %w", id, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	c.ID = id
	return c, nil
}

// Spec reads the container's config.json.
func (c *Container) Spec() (*specs.Spec, error) {
	s := &specs.Spec{}
	return s, readJSON(c.rt.configFile(c.ID), s)
}

// takeSpec is Spec for the first start: what was just written need not be read.
func (c *Container) takeSpec() (*specs.Spec, error) {
	if s := c.spec.Swap(nil); s != nil {
		return s, nil
	}
	return c.Spec()
}

// Status looks at the container's files and at its process.
func (c *Container) Status() (Status, error) {
	attended, err := c.attended()
	if err != nil {
		return Status{}, err
	}
	var s Status
	if err := readJSON(c.rt.lastRunFile(c.ID), &s.LastRun); errors.Is(err, fs.ErrNotExist) {
		s.Phase = Created
		return s, nil
	} else if err != nil {
		return Status{}, err
	}
	st, err := c.state()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Status{}, err
	}
	alive := err == nil && st.Pid > 0 && s.Finished.IsZero() && bornAt(st.Pid) == st.Birth
	switch {
	case alive:
		s.Phase, s.Pid, s.Unattended = Running, st.Pid, !attended
		s.Code = 0
	case attended && st.Restarting:
		s.Phase = Restarting
	case attended && s.Finished.IsZero():
		s.Phase = Created // on its way
	default:
		s.Phase = Exited
		if s.Finished.IsZero() {
			s.Code = unseenExit
		}
	}
	return s, nil
}

// OpenRoot opens the root directory of the container's file system: the live one
// while it runs, with what is mounted in it. One that a user has under an overlay
// can only be opened while it runs: ErrNotRunning; see Export. The file is the caller's. What lies
// below is the container's to change at any moment: see package beneath.
func (c *Container) OpenRoot() (*os.File, error) {
	root, err := c.liveRoot()
	if !errors.Is(err, ErrNotRunning) {
		return root, err
	}
	if c.Root.overlaid() {
		return c.stoppedRoot()
	}
	return os.OpenFile(c.Root.Dir, openRootFlags, 0)
}

const openRootFlags = unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC
