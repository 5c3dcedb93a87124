// Package guest is the part of peel that runs inside a container, from the
// birth of its namespaces until the execve of the image's program. It runs next
// to files that an attacker wrote, with all privileges of the container's
// namespaces, so it is kept small and holds to one rule: nothing in the root
// file system is named by a path of strings; it is opened once, inside the root
// (package beneath), and what was opened is used.
//
// The order of its steps is law:
//
//	namespaces      join what is joined; loopback, host name, cgroup view
//	root            clone or overlay, attach privately
//	mounts, devices in the order of config.json, by descriptor
//	terminal        a pty of the container's own devpts
//	masks           hide and write-protect
//	pivot_root      the host's tree is gone
//	limits, ids     rlimits, groups, uid, gid, capabilities
//	seccomp         as late as can be: nothing of ours should need to pass it
//	execve
//
// Everything happens on one locked thread: namespaces, credentials and seccomp
// belong to threads in Linux, and the thread that calls execve is the one that
// survives it.
package guest

import (
	"errors"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"peel/pkg/run/internal/mountfd"
	"peel/pkg/run/internal/proto"
)

// guest is the state of a container being made.
type guest struct {
	proto.Guest
	root rootDir // the container's root, attached, not yet "/"
	proc int     // a procfs of our own, attached nowhere
	pty  pty
	// self is this program, to be executed as the container's init; 0 without one.
	self int
	// userNS: in a user namespace no device node can be made.
	userNS bool
}

// Main is the guest. It does not return.
func Main() {
	runtime.LockOSThread()
	hide()
	g := &guest{}
	err := proto.Fail("config", "", proto.ReadConfig(&g.Guest))
	if err == nil {
		err = heedSignals()
	}
	if err == nil {
		err = g.run()
	}
	die(err)
}

// hide keeps other processes of a shared pid namespace from tracing this one
// and from its descriptors.
func hide() {
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	unix.CloseOnExec(proto.ReportFD)
}

// die reports the failure and ends the process. The exit code is for a parent
// that is gone.
func die(err error) {
	f := &proto.Failure{}
	if !errors.As(err, &f) {
		f = &proto.Failure{Stage: "set up", Text: err.Error()}
	}
	_ = proto.Send(proto.ReportFD, proto.Report{Stage: "failed", Failure: f})
	os.Exit(125)
}

func (g *guest) run() error {
	if g.Spec.Linux.Pids != nil {
		spareThreads() // long before they are needed: until they idle they are none
	}
	unix.Umask(0)
	if g.Root.Tree {
		unix.CloseOnExec(proto.FirstFD)
	}
	for _, fd := range g.Mapped {
		unix.CloseOnExec(fd)
	}
	if g.Init {
		// What this process was executed from, which nobody in the container can
		// write to: see package selfexe.
		var err error
		if g.self, err = unix.Open("/proc/self/exe", unix.O_PATH|unix.O_CLOEXEC, 0); err != nil {
			return proto.Fail("open", "/proc/self/exe", err)
		}
	}
	g.userNS = g.OwnUserNS || inUserNS()
	if err := g.namespaces(); err != nil {
		return err
	}
	if err := g.fileSystem(); err != nil {
		return err
	}
	p, err := g.process()
	if err != nil {
		return err
	}
	if err := g.createHooks(); err != nil {
		return err
	}
	if err := g.pivot(); err != nil {
		return err
	}
	if _, err := unix.Setsid(); err != nil {
		return proto.Fail("new session", "", err)
	}
	// Without its own keyring a container would search that of the caller.
	if _, err := unix.KeyctlJoinSessionKeyring("peel-" + g.ID); err != nil && err != unix.ENOSYS && err != unix.EPERM {
		return proto.Fail("session keyring", "", err)
	}
	if err := p.prepare(); err != nil {
		return err
	}
	if err := p.pty.takeControl(); err != nil {
		return proto.Fail("controlling terminal", "", err)
	}
	return p.exec(g.startHooks(), func() error {
		return proto.Ask(proto.ReportFD, "exec")
	})
}

// fileSystem builds the container's tree under g.root.
func (g *guest) fileSystem() error {
	if err := g.makeRoot(); err != nil {
		return err
	}
	proc, err := mountfd.NewFS("proc", "proc", nil, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return proto.Fail("own procfs", "", err)
	}
	g.proc = proc
	steps := []func() error{g.mounts, g.devices, g.terminal, g.sysctls, g.maskPaths, g.protectPaths, g.workingDir, g.sealRoot}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
