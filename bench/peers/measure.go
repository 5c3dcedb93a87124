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
	dir, bin, ref string
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

// measure lets the tools of a task take turns. Tools whose program is missing
// are left out, and said to be.
func (b bench) measure(ctx context.Context, t task, rounds int) ([]toolResult, error) {
	var tools []tool
	for _, tool := range t.tools {
		if _, err := exec.LookPath(tool.needs); tool.needs != "" && err != nil {
			fmt.Fprintf(os.Stderr, "  without %s: %v\n", tool.name, err)
			continue
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
		var outs []string
		for _, i := range order {
			out := filepath.Join(b.dir, fmt.Sprintf("r%d-%d", round, i))
			outs = append(outs, out)
			s, err := b.once(ctx, tools[i], out)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", tools[i].name, err)
			}
			if round > 0 {
				results[i].Samples = append(results[i].Samples, s)
			}
		}
		order = append(order[1:], order[0])
		for _, out := range outs {
			if err := removeOutput(out); err != nil {
				return nil, err
			}
		}
	}
	return results, nil
}

// once runs a tool in a directory of its own.
func (b bench) once(ctx context.Context, t tool, out string) (s sample, err error) {
	if err := os.Mkdir(out, 0o755); err != nil {
		return s, err
	}
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

// removeOutput deletes what a tool made, after what podman leaves mounted.
func removeOutput(out string) error {
	for _, pattern := range []string{"s/overlay/*/merged", "s/overlay"} {
		mounts, _ := filepath.Glob(filepath.Join(out, pattern)) // the pattern is well formed
		for _, m := range mounts {
			if err := unix.Unmount(m, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
				return err
			}
		}
	}
	return os.RemoveAll(out)
}

// workplace returns a directory to work in, what file system it is on, and how
// to get rid of it: one below place, or else an ext4 with a journal in memory.
func workplace(ctx context.Context, place string) (dir, fs string, remove func() error, err error) {
	if place != "" {
		dir, err = os.MkdirTemp(place, "bench-")
		return dir, "that of " + place, func() error { return os.RemoveAll(dir) }, err
	}
	base, err := os.MkdirTemp("/dev/shm", "bench-")
	if err != nil {
		return "", "", nil, err
	}
	disk, dir := filepath.Join(base, "disk"), filepath.Join(base, "fs")
	remove = func() error {
		err := unix.Unmount(dir, unix.MNT_DETACH)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			err = nil // not mounted
		}
		return errors.Join(err, os.RemoveAll(base))
	}
	script := `truncate -s 16G "$1"; mkfs.ext4 -q -F "$1"; mkdir "$2"; mount -o loop,discard "$1" "$2"`
	if out, err := exec.CommandContext(ctx, "sh", "-euc", script, "sh", disk, dir).CombinedOutput(); err != nil {
		return "", "", nil, errors.Join(fmt.Errorf("no ext4 in memory (use -place DIR): %w: %s", err, out), remove())
	}
	return dir, "ext4 with a journal, on a loop device in memory", remove, nil
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
