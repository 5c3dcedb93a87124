package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// bench is where and with what image tasks are measured.
type bench struct {
	work     workplace
	bin, ref string
}

// sample is what one run took.
type sample struct {
	Wall float64 `json:"wall_s"`
	CPU  float64 `json:"cpu_s"`   // user and system, all processes
	RSS  float64 `json:"peak_mb"` // of the largest process
}

// toolResult is all runs of a tool, one a round.
type toolResult struct {
	Tool    string   `json:"tool"`
	Samples []sample `json:"samples"`
}

// measure lets the tools of a task take turns. Tools whose program is missing, or
// that lack what it takes, are left out, and said to be.
func (b bench) measure(ctx context.Context, t task, rounds int) ([]toolResult, error) {
	var tools []tool
	for _, tool := range t.tools {
		if _, err := exec.LookPath(tool.needs); tool.needs != "" && err != nil {
			fmt.Fprintf(os.Stderr, "  without %s: %v\n", tool.name, err)
			continue
		}
		if tool.check != "" {
			if _, err := b.once(ctx, tool.checking()); err != nil {
				fmt.Fprintf(os.Stderr, "  without %s: %v\n", tool.name, err)
				continue
			}
		}
		tools = append(tools, tool)
	}
	results := make([]toolResult, len(tools))
	for i, tool := range tools {
		results[i].Tool = tool.name
	}
	order := make([]int, len(tools))
	for i := range order {
		order[i] = i
	}
	// Round 0 warms the page cache and does not count.
	for round := range rounds + 1 {
		for _, i := range order {
			s, err := b.once(ctx, tools[i])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", tools[i].name, err)
			}
			if round > 0 {
				results[i].Samples = append(results[i].Samples, s)
			}
		}
		order = append(order[1:], order[0])
	}
	return results, nil
}

// checking is a tool whose one run tells whether t can be measured.
func (t tool) checking() tool { return tool{name: t.name, script: t.check} }

// once runs a tool in a directory of its own.
func (b bench) once(ctx context.Context, t tool) (s sample, err error) {
	out, remove, err := b.work.fresh(ctx)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	run, err := os.MkdirTemp("", "run-") // podman wants a short path for it
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(run)) }()
	command := func(script string) (*exec.Cmd, *bytes.Buffer) {
		cmd := exec.CommandContext(ctx, "sh", "-euc", script)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		cmd.Env = append(os.Environ(), "PATH="+b.bin+":"+os.Getenv("PATH"), "REF="+b.ref, "OUT="+out, "RUN="+run, "ARCH="+runtime.GOARCH)
		return cmd, &stderr
	}
	if t.cleanup != "" {
		defer func() {
			cmd, stderr := command(t.cleanup)
			if e := cmd.Run(); e != nil {
				err = errors.Join(err, fmt.Errorf("cleaning up: %w: %s", e, stderr))
			}
		}()
	}
	if t.prepare != "" {
		cmd, stderr := command(t.prepare)
		if err := cmd.Run(); err != nil {
			return s, fmt.Errorf("preparing: %w: %s", err, stderr)
		}
	}
	unix.Sync()
	cmd, stderr := command(t.script)
	start := time.Now()
	err = cmd.Run()
	s.Wall = time.Since(start).Seconds()
	if err != nil {
		return s, fmt.Errorf("%w: %s", err, stderr)
	}
	s.CPU = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	s.RSS = float64(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss) / 1024
	return s, nil
}

// workplace is where tools write: a directory below place or, if that is empty,
// an ext4 with a journal in memory, which is made anew for every run.
type workplace struct {
	base  string // what the bench itself keeps: programs, the registry's data
	place string
}

func newWorkplace(place string) (w workplace, remove func() error, err error) {
	w.place = place
	if place == "" {
		place = "/dev/shm"
	}
	w.base, err = os.MkdirTemp(place, "bench-")
	return w, func() error { return os.RemoveAll(w.base) }, err
}

func (w workplace) String() string {
	if w.place != "" {
		return "the file system of " + w.place
	}
	return "an ext4 with a journal, new for each run, on a loop device in memory"
}

// fresh returns an empty directory and how to get rid of it.
func (w workplace) fresh(ctx context.Context) (dir string, remove func() error, err error) {
	if w.place != "" {
		dir, err = os.MkdirTemp(w.base, "run-")
		return dir, func() error { return errors.Join(unmountBelow(dir), os.RemoveAll(dir)) }, err
	}
	disk, dir := filepath.Join(w.base, "disk"), filepath.Join(w.base, "fs")
	remove = func() error {
		err := errors.Join(unmountBelow(dir), unmount(dir))
		return errors.Join(err, os.RemoveAll(dir), os.RemoveAll(disk))
	}
	// Nothing may be initialised in the background of what is measured.
	script := `truncate -s 16G "$1"; mkfs.ext4 -q -F "$1"; mkdir "$2"; mount -o loop,discard,noinit_itable "$1" "$2"; rmdir "$2/lost+found"`
	if out, err := exec.CommandContext(ctx, "sh", "-euc", script, "sh", disk, dir).CombinedOutput(); err != nil {
		return "", nil, errors.Join(fmt.Errorf("no ext4 in memory (use -place DIR): %w: %s", err, out), remove())
	}
	return dir, remove, nil
}

// unmountBelow unmounts what podman leaves mounted.
func unmountBelow(dir string) (err error) {
	for _, pattern := range []string{"s/overlay/*/merged", "s/overlay"} {
		mounts, _ := filepath.Glob(filepath.Join(dir, pattern)) // the pattern is well formed
		for _, m := range mounts {
			err = errors.Join(err, unmount(m))
		}
	}
	return err
}

// unmount unmounts dir if it is a mount.
func unmount(dir string) error {
	err := unix.Unmount(dir, 0)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// machine says in one line where the figures come from.
func machine() string {
	cpu := runtime.GOARCH
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
				cpu = strings.TrimSpace(value)
				break
			}
		}
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return cpu
	}
	return fmt.Sprintf("%d CPUs (%s), Linux %s", runtime.NumCPU(), cpu, unix.ByteSliceToString(u.Release[:]))
}

// median of a list that is not empty.
func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
