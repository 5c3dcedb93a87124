package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// cli is the built peel with a store of its own.
type cli struct {
	bin, root string
	env       []string // added to the environment
}

// result is what a run left behind.
type result struct {
	code           int
	stdout, stderr string
}

// peel returns the command with its store in dir/store.
func peel(t *testing.T, dir string) cli {
	t.Helper()
	bin, err := shared.peel()
	if err != nil {
		t.Fatal(err)
	}
	return cli{bin: bin, root: filepath.Join(dir, "store")}
}

// command prepares a run, for tests that do more than wait for its end.
func (c cli) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.bin, args...)
	cmd.Env = append(os.Environ(), "PEEL_ROOT="+c.root)
	cmd.Env = append(cmd.Env, c.env...)
	return cmd
}

func (c cli) run(t *testing.T, args ...string) result {
	t.Helper()
	cmd := c.command(t.Context(), args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	return result{exitCode(err), stdout.String(), stderr.String()}
}

// ok runs a command that must succeed.
func (c cli) ok(t *testing.T, args ...string) result {
	t.Helper()
	r := c.run(t, args...)
	if r.code != 0 {
		t.Fatalf("peel %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r
}
