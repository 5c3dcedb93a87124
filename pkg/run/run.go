// Package run turns a root file system and a runtime-spec configuration into an
// isolated process, and keeps the life of what it started.
//
// A container here is a process of the host with a view of its own: namespaces
// decide what it sees, capabilities, seccomp and the LSM what it may do,
// cgroups how much. There is no daemon. Three programs take part, all of them
// this binary:
//
//	the caller      peel run, or whatever uses this package
//	 \- monitor     only for a detached container: keeps its logs and exit code
//	     \- guest   becomes the container's first process by execve
//
// and for exec a joiner, which forks the new program out of a thread that has
// entered the container. Their main function must begin with Dispatch.
//
// State is files and locks. A container that runs has a locked file in the run
// directory, held by the process that waits for it; a crash of any process at
// any time is seen by the next caller as a free lock.
package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Runtime is a place where containers live.
type Runtime struct {
	data string // containers/ and names/: survives a reboot
	run  string // locks and states of what runs: does not

	findImage func(Image) (Source, error)
}

// Options say where. The zero value is the usual place of the user.
type Options struct {
	// Data is the directory that the containers are kept in.
	Data string
	// Run is the directory for what runs; it should not survive a reboot.
	Run string
	// FindImage finds an image that is to be mounted. It may be nil where no
	// container has a Rootfs.Image, or none of those starts.
	FindImage func(Image) (Source, error)
}

// Open makes the directories where they are missing. Nobody else may look into
// them: a container's tree has setuid files of whoever made the image
// (CVE-2021-41091).
func Open(o Options) (*Runtime, error) {
	if o.Data == "" {
		o.Data = defaultData()
	}
	if o.Run == "" {
		o.Run = defaultRun()
	}
	rt := &Runtime{findImage: o.FindImage}
	var err error
	if rt.data, err = filepath.Abs(o.Data); err != nil {
		return nil, err
	}
	if rt.run, err = filepath.Abs(o.Run); err != nil {
		return nil, err
	}
	for _, dir := range []string{rt.containers(), rt.names(), rt.run} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("container storage: %w", err)
		}
	}
	// Whoever owns a directory above decides what is in it.
	for _, dir := range []string{rt.containers(), rt.names(), rt.run} {
		if err := checkPrivate(dir); err != nil {
			return nil, err
		}
	}
	return rt, nil
}

func defaultData() string {
	if os.Geteuid() == 0 {
		return "/var/lib/peel"
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "peel")
	}
	home, _ := os.UserHomeDir()
	return filepath.Join(home, ".local/share/peel")
}

func defaultRun() string {
	if os.Geteuid() == 0 {
		return "/run/peel"
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "peel")
	}
	return fmt.Sprintf("/tmp/peel-run-%d", os.Geteuid())
}

func checkPrivate(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("container storage: %w", err)
	}
	if !info.IsDir() || info.Mode().Perm()&0o077 != 0 || ownerOf(info) != os.Geteuid() {
		return fmt.Errorf("container storage: %s must be a directory of this user that nobody else can enter", dir)
	}
	return nil
}

func (rt *Runtime) containers() string         { return filepath.Join(rt.data, "containers") }
func (rt *Runtime) names() string              { return filepath.Join(rt.data, "names") }
func (rt *Runtime) dataDir(id string) string   { return filepath.Join(rt.containers(), id) }
func (rt *Runtime) runDir(id string) string    { return filepath.Join(rt.run, id) }
func (rt *Runtime) stateFile(id string) string { return filepath.Join(rt.runDir(id), "state.json") }
func (rt *Runtime) lockFile(id string) string  { return filepath.Join(rt.runDir(id), "lock") }
func (rt *Runtime) recordFile(id string) string {
	return filepath.Join(rt.dataDir(id), "container.json")
}
func (rt *Runtime) configFile(id string) string  { return filepath.Join(rt.dataDir(id), "config.json") }
func (rt *Runtime) lastRunFile(id string) string { return filepath.Join(rt.dataDir(id), "exit.json") }

// What callers branch on.
var (
	ErrNotFound   = errors.New("no such container")
	ErrRunning    = errors.New("container is running")
	ErrNotRunning = errors.New("container is not running")
)

// AmbiguousError is a prefix that more than one container's id begins with.
type AmbiguousError struct{ Prefix string }

func (e *AmbiguousError) Error() string { return "more than one container begins with " + e.Prefix }

// NameInUseError is a name that another container has.
type NameInUseError struct{ Name, ID string }

func (e *NameInUseError) Error() string {
	return fmt.Sprintf("the name %s is in use by container %.12s", e.Name, e.ID)
}
