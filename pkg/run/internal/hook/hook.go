// Package hook runs the programs that a config.json names for moments of a
// container's life (runtime-spec config.md, "POSIX-platform Hooks"). They are the
// word of whoever wrote the config, and run with all rights of whoever runs it: no
// config that peel makes of an image has any.
package hook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// left is how long after a hook's end its output is waited for, which a program that
// it has left in the background may hold open.
const left = 100 * time.Millisecond

// maxOutput bounds what is kept of what a hook prints.
const maxOutput = 4 << 10

// Error is a hook that has failed.
type Error struct {
	Path   string
	Err    error
	Output string // the beginning of what it printed
}

func (e *Error) Error() string {
	s := fmt.Sprintf("hook %s: %v", e.Path, e.Err)
	if e.Output != "" {
		s += ": " + e.Output
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Run runs hooks in their order, each with state on its standard input, until one
// fails: *Error. They are children of the calling thread, and have its namespaces
// and rights.
func Run(hooks []specs.Hook, state specs.State) error {
	for _, h := range hooks {
		if err := run(h, state); err != nil {
			return err
		}
	}
	return nil
}

// RunAll runs all of them, whichever fail.
func RunAll(hooks []specs.Hook, state specs.State) (failed []error) {
	for _, h := range hooks {
		if err := run(h, state); err != nil {
			failed = append(failed, err)
		}
	}
	return failed
}

func run(h specs.Hook, state specs.State) error {
	input, err := json.Marshal(state)
	if err != nil {
		return err
	}
	ctx := context.Background()
	if h.Timeout != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(*h.Timeout)*time.Second)
		defer cancel()
	}
	cmd := exec.CommandContext(ctx, h.Path)
	if len(h.Args) > 0 {
		cmd.Args = h.Args
	}
	cmd.Env = append([]string{}, h.Env...) // none is none, and not ours
	out := &head{}
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = bytes.NewReader(input), out, out, left
	err = cmd.Run()
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return nil
	case ctx.Err() != nil:
		err = fmt.Errorf("not done after %d seconds: %w", *h.Timeout, ctx.Err())
	}
	return &Error{Path: h.Path, Err: err, Output: strings.TrimSpace(string(out.b))}
}

// head keeps the beginning of what is written to it.
type head struct{ b []byte }

func (h *head) Write(p []byte) (int, error) {
	h.b = append(h.b, p[:min(len(p), maxOutput-len(h.b))]...)
	return len(p), nil
}
