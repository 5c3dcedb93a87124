package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"

	"peel/pkg/progress"
)

// redrawEvery bounds how often the live lines are drawn: often enough to look
// alive, rarely enough to cost nothing.
const redrawEvery = 80 * time.Millisecond

// liveUI keeps the layers in work as live lines at the foot of the terminal;
// final lines scroll away above them.
type liveUI struct {
	last progress.Kind
	size func() (width, height int)

	mu     sync.Mutex
	w      io.Writer   // guarded by mu, like all below
	layers []liveLayer // in the order of the manifest; complete ones are taken out
	drawn  int         // live lines on the screen now
	next   time.Time   // when to draw again
	closed bool
}

// liveLayer is one layer's line: bytes that arrived and bytes unpacked, both
// counted in the compressed blob.
type liveLayer struct {
	digest            digest.Digest
	total             int64
	arrived, unpacked int64
	downloaded        bool
	unpacking         bool
}

func newLiveUI(w io.Writer, size func() (int, int), last progress.Kind) *liveUI {
	return &liveUI{w: w, size: size, last: last}
}

func (u *liveUI) event(e progress.Event) {
	u.mu.Lock()
	defer u.mu.Unlock()
	text := finalLine(e, u.last)
	u.update(e)
	switch {
	case u.closed:
	case text != "":
		u.redraw(text)
	case time.Now().After(u.next):
		u.redraw("")
	}
}

func (u *liveUI) line(format string, args ...any) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.redraw(fmt.Sprintf(format, args...))
}

func (u *liveUI) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.layers, u.closed = nil, true
	u.redraw("")
}

func (u *liveUI) update(e progress.Event) {
	if e.Kind == progress.Queued {
		u.layers = append(u.layers, liveLayer{digest: e.Digest, total: e.Total})
		return
	}
	for i := range u.layers {
		l := &u.layers[i]
		if l.digest != e.Digest {
			continue
		}
		switch e.Kind {
		case progress.Exists, progress.Downloaded:
			l.arrived, l.downloaded = l.total, true
		case progress.Downloading, progress.Retrying:
			l.arrived = e.Current
		case progress.Unpacking:
			l.unpacked, l.unpacking = e.Current, true
			l.arrived = max(l.arrived, e.Current) // the two sides report at their own pace
		}
		if e.Kind == u.last || e.Kind == progress.Exists && u.last == progress.Downloaded {
			u.layers = append(u.layers[:i], u.layers[i+1:]...)
		}
		return
	}
}

// redraw replaces the live lines, after a final line if there is one. All goes
// out in one write, so that the screen never shows a half.
func (u *liveUI) redraw(final string) {
	u.next = time.Now().Add(redrawEvery)
	var b strings.Builder
	if u.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", u.drawn) // up
	}
	b.WriteString("\r\x1b[J") // clear to the end of the screen
	if final != "" {
		b.WriteString(final + "\n")
	}
	width, height := u.size()
	shown := min(len(u.layers), max(height-2, 1))
	for i := range shown {
		text := u.layers[i].String()
		if i == shown-1 && shown < len(u.layers) {
			text = fmt.Sprintf("... and %d more layers", len(u.layers)-shown+1)
		}
		if len(text) >= width {
			text = text[:max(width-1, 0)]
		}
		b.WriteString(text + "\n")
	}
	u.drawn = shown
	io.WriteString(u.w, b.String())
}

func (l *liveLayer) String() string {
	id, total := short(l.digest), units.HumanSize(float64(l.total))
	switch {
	case l.arrived == 0 && !l.downloaded && !l.unpacking:
		return fmt.Sprintf("%s: Waiting      %s %s", id, bar(0, l.total), total)
	case l.unpacking:
		return fmt.Sprintf("%s: Extracting   %s %s of %s, downloaded %s",
			id, bar(l.unpacked, l.total), units.HumanSize(float64(l.unpacked)), total, units.HumanSize(float64(l.arrived)))
	case l.downloaded:
		return fmt.Sprintf("%s: Downloaded   %s %s", id, bar(l.total, l.total), total)
	}
	return fmt.Sprintf("%s: Downloading  %s %s of %s", id, bar(l.arrived, l.total), units.HumanSize(float64(l.arrived)), total)
}

// bar draws a part of a whole, 30 columns wide; ASCII only, so that bytes are
// columns.
func bar(part, whole int64) string {
	const width = 30
	n := width
	if whole > 0 {
		n = int(min(part, whole) * width / whole)
	}
	head := ""
	if n > 0 && n < width {
		head, n = ">", n-1
	}
	return "[" + strings.Repeat("=", n) + head + strings.Repeat(" ", width-n-len(head)) + "]"
}
