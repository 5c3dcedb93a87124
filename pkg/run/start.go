package run

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"time"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"peel/pkg/run/internal/cgroup"
	"peel/pkg/run/internal/hook"
	"peel/pkg/run/internal/monitor"
	"peel/pkg/run/internal/mountfd"
	"peel/pkg/run/internal/proto"
	"peel/pkg/run/internal/seccomp"
)

// Streams are the standard streams of a program, handed to it untouched; nil is
// /dev/null. They stay the caller's. A program with a terminal gets none of
// them: see Process.Terminal.
type Streams struct{ In, Out, Err *os.File }

// Start starts the container as a child of this process. When it returns nil
// the image's program runs; the caller must Wait for the Process. ErrRunning
// says that it already does. A restart policy does not count: that needs
// StartDetached or StartAttached.
func (c *Container) Start(streams Streams) (*Process, error) {
	lock, err := c.lock()
	if err != nil {
		return nil, err
	}
	p, err := c.start(lock, streams, 0)
	if err != nil {
		lock.Close()
		return nil, err
	}
	return p, nil
}

// start needs the lock, which stays the caller's. restarts is how often the policy
// has started the container before.
func (c *Container) start(lock *os.File, streams Streams, restarts int) (*Process, error) {
	s, err := c.Status()
	if err != nil {
		return nil, err
	}
	if s.Phase == Running {
		return nil, ErrRunning
	}
	if err := c.cleanUpBefore(restarts); err != nil {
		return nil, err
	}
	spec, err := c.takeSpec()
	if err != nil {
		return nil, err
	}
	if err := readyLabels(spec.Process, spec.Linux.MountLabel); err != nil {
		return nil, err
	}
	_, ownUser := namespace(spec, specs.UserNamespace)
	group, err := c.newGroup(spec, ownUser)
	if err != nil {
		return nil, err
	}
	if root := c.root(); root.Volatile && root.Work != "" {
		// One that removes itself is started again only if its end was missed.
		if err := mountfd.ClearVolatile(root.Work); err != nil {
			return nil, err
		}
	}
	tree, err := c.openTree()
	if err != nil {
		return nil, err
	}
	var mount *os.File
	if tree != nil {
		defer tree.Close()
		if mount, err = tree.Dup(); err != nil {
			return nil, err
		}
		defer mount.Close()
	}
	l := monitor.Launch{
		Guest:   proto.Guest{ID: c.ID, Root: c.root(), Spec: proto.NewSpec(spec), User: c.User, OwnUserNS: ownUser, Init: c.Init, Fill: c.toFill(), Bundle: c.hookState(spec, "", 0).Bundle},
		Group:   group,
		Streams: monitor.Streams(streams),
		Tree:    mount,
		Filter:  func() (*proto.Filter, error) { return filter(spec.Linux.Seccomp) },
		Created: func(pid int) error { return c.created(spec, pid) },
	}
	last := LastRun{Started: time.Now(), RestartCount: restarts}
	if restarts > 0 {
		last.Code = s.Code // what a restart is for, until its program runs
	}
	if err := writeJSON(c.rt.lastRunFile(c.ID), &last, false); err != nil {
		return nil, err
	}
	// Before there is anything to find: if we are killed, cleanUp knows where. The
	// process is not named yet, or it could be joined while its root is the host's.
	st := state{Cgroups: group.Paths(), Restarting: restarts > 0}
	if err := c.setState(st); err != nil {
		return nil, err
	}
	// It is named before its program begins: if we are killed from now on, it is
	// seen to run. The guest itself ends when nobody answers it.
	l.Ready = func(pid int) error {
		st.Pid, st.Birth = pid, bornAt(pid)
		return c.setState(st)
	}
	kept := c.lend(tree) // before the guest attaches it: then it is out of reach
	child, err := l.Start()
	if err == nil {
		if err = hook.Run(hooksOf(spec).Poststart, c.hookState(spec, specs.StateRunning, child.Pid)); err != nil {
			child.Abandon()
			err = errors.Join(err, killGroup(group))
		}
	}
	if err != nil {
		err = errors.Join(append([]error{err, c.takeBack(kept), group.Remove()}, c.stopped(spec)...)...)
		last.Finished, last.Code, last.Error = time.Now(), ExitCode(err), err.Error()
		return nil, errors.Join(err, c.dropState(), writeJSON(c.rt.lastRunFile(c.ID), &last, false))
	}
	return &Process{
		child: child, Terminal: child.Terminal, container: c, lock: lock, kept: kept, group: group, last: last,
		sharesPids: sharesPids(spec), spec: spec,
	}, nil
}

// newGroup prepares the container's cgroups. A user makes some only where limits
// ask for it: to run without them would be another container.
func (c *Container) newGroup(spec *specs.Spec, ownUser bool) (*cgroup.Group, error) {
	path := spec.Linux.CgroupsPath
	if path == "" {
		path = "/peel/" + c.ID
	}
	path = filepath.Join("/", path)
	if os.Geteuid() != 0 {
		if !limited(spec.Linux.Resources) {
			return nil, nil
		}
		dir, err := cgroup.Delegated()
		if err != nil {
			return nil, &UnsupportedError{"linux.resources", err.Error()}
		}
		path = filepath.Join(dir, path)
	}
	return cgroup.New(cgroup.Config{Path: path, Resources: spec.Linux.Resources, OwnUserNS: ownUser})
}

// limited says whether there are limits. Device rules do not count: they are
// about privileges that a user has not.
func limited(r *specs.LinuxResources) bool {
	if r == nil {
		return false
	}
	rest := *r
	rest.Devices = nil
	return !reflect.DeepEqual(rest, specs.LinuxResources{})
}

func sharesPids(spec *specs.Spec) bool {
	ns, ok := namespace(spec, specs.PIDNamespace)
	return !ok || ns.Path != ""
}

// filter compiles a profile into the form that travels.
func filter(profile *specs.LinuxSeccomp) (*proto.Filter, error) {
	p, err := seccomp.Compile(profile)
	if err != nil || p == nil {
		return nil, err
	}
	bytes := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(p.Filter))), len(p.Filter)*int(unsafe.Sizeof(p.Filter[0])))
	return &proto.Filter{Flags: p.Flags, Code: bytes}, nil
}

// cleanUp removes what an earlier run that nobody finished has left: its
// cgroups and its state. It needs the lock. A state of before a reboot, which was
// thorough, tells of nothing.
func (c *Container) cleanUp() error {
	st, err := c.state()
	if errors.Is(err, os.ErrNotExist) {
		return c.dropState()
	}
	if err == nil {
		err = clearCgroups(st)
	}
	if err != nil {
		return err
	}
	// Nobody has told the hooks of that end. A container that was removed has none.
	if spec, err := c.Spec(); err == nil && !st.between() {
		_ = c.stopped(spec) // nobody is left to be warned
	}
	return c.dropState()
}

// cleanUpBefore is cleanUp before a start. Between two runs the state stays, which
// says that there is more to come.
func (c *Container) cleanUpBefore(restarts int) error {
	if restarts == 0 {
		return c.cleanUp()
	}
	st, err := c.state()
	if err != nil {
		return err
	}
	return clearCgroups(st)
}

// clearCgroups removes the cgroups that the state names, with what is in them.
func clearCgroups(st state) error {
	group, err := cgroup.Open(st.Cgroups)
	if err != nil {
		return err
	}
	if err := killGroup(group); err != nil {
		return err
	}
	return group.Remove()
}
