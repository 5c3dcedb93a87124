package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/term"

	"peel/pkg/progress"
)

// The rules of output: what a user may want to pass on goes to stdout; progress,
// warnings and errors go to stderr. On a terminal, layers in work have a live
// line each; elsewhere every line is final.

// ui shows the progress of one command.
type ui interface {
	// event is a progress.Func.
	event(progress.Event)
	// line prints a final line of the command's own.
	line(format string, args ...any)
	// close ends live output. Call it before printing anything else to stderr.
	close()
}

// newUI chooses how progress appears. last is the kind of event that completes a
// layer in this command: Downloaded for a pull, Unpacked for an unpack.
func (a *app) newUI(quiet bool, last progress.Kind) (ui, error) {
	mode := a.progress
	fd, isTerminal := terminal(a.stderr)
	if mode == "auto" && isTerminal {
		mode = "tty"
	}
	switch {
	case mode != "auto" && mode != "tty" && mode != "plain" && mode != "json" && mode != "none":
		return nil, usageError{nil, fmt.Errorf("--progress %q: want auto, tty, plain, json or none", mode)}
	case quiet || mode == "none":
		return silentUI{}, nil
	case mode == "json":
		return &jsonUI{enc: json.NewEncoder(a.stderr)}, nil
	case mode == "tty":
		return newLiveUI(a.stderr, func() (int, int) { return size(fd) }, last), nil
	}
	return &plainUI{w: a.stderr, last: last}, nil
}

func terminal(w io.Writer) (fd int, ok bool) {
	f, isFile := w.(*os.File)
	if !isFile {
		return 0, false
	}
	return int(f.Fd()), term.IsTerminal(int(f.Fd()))
}

func size(fd int) (width, height int) {
	if w, h, err := term.GetSize(fd); err == nil && w > 0 && h > 0 {
		return w, h
	}
	return 80, 24
}

// silentUI shows nothing: errors alone will be printed.
type silentUI struct{}

func (silentUI) event(progress.Event) {}
func (silentUI) line(string, ...any)  {}
func (silentUI) close()               {}

// jsonUI prints each event as documented in package progress.
type jsonUI struct {
	mu  sync.Mutex
	enc *json.Encoder // guarded by mu
}

func (u *jsonUI) event(e progress.Event) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.enc.Encode(e)
}

func (u *jsonUI) line(string, ...any) {}
func (u *jsonUI) close()              {}

// plainUI prints a line when a layer is complete, as a log file wants it.
type plainUI struct {
	mu   sync.Mutex
	w    io.Writer // guarded by mu
	last progress.Kind
}

func (u *plainUI) event(e progress.Event) {
	if text := finalLine(e, u.last); text != "" {
		u.line("%s", text)
	}
}

func (u *plainUI) line(format string, args ...any) {
	u.mu.Lock()
	defer u.mu.Unlock()
	fmt.Fprintf(u.w, format+"\n", args...)
}

func (u *plainUI) close() {}

// finalLine is what stays on the screen of an event; empty for most. The words
// are those that docker's users know.
func finalLine(e progress.Event, last progress.Kind) string {
	switch e.Kind {
	case progress.Exists:
		if last == progress.Downloaded {
			return short(e.Digest) + ": Already exists"
		}
	case progress.Retrying:
		return fmt.Sprintf("%s: Retrying: %s", short(e.Digest), printable(e.Message))
	case progress.Warning:
		return "warning: " + printable(e.Message)
	case last:
		return short(e.Digest) + ": Pull complete"
	}
	return ""
}

// short is a digest as people read it: twelve digits, as docker shows them.
func short(d digest.Digest) string {
	if d.Validate() != nil {
		return string(d)
	}
	return d.Encoded()[:12]
}
