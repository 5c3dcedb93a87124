package changeset

import (
	"fmt"
	"sync"

	"peel/pkg/progress"
)

// Loss is a kind of thing that could not be restored as it is. What is recorded is
// kept in an attribute of the file.
type Loss int

const (
	LostOwner Loss = iota
	LostSetID
	LostDevice
	RecordedOwner
	RecordedSetID
	RecordedDevice
	LostXattr
	LostOverlay
	kindsOfLoss
)

// text says what a loss is, after a number.
var text = [kindsOfLoss]string{
	LostOwner:      "owners not restored",
	LostSetID:      "set-id bits left out",
	LostDevice:     "devices and FIFOs made as empty files",
	RecordedOwner:  "owners recorded and not set",
	RecordedSetID:  "set-id bits recorded and not set",
	RecordedDevice: "devices and FIFOs recorded and made as empty files",
	LostXattr:      "extended attributes not restored",
	LostOverlay:    "extended attributes left out",
}

// Losses counts what could not be restored, so that a thousand files make one
// warning. If Strict, the first one is an error.
type Losses struct {
	Strict bool

	mu    sync.Mutex // guards what is below
	count [kindsOfLoss]int64
	first [kindsOfLoss]error
}

// Lose counts a loss in the entry called name: op is what came to err.
func (l *Losses) Lose(k Loss, name, op string, err error) error {
	e := &EntryError{Name: name, Op: op, Err: err}
	if l.Strict {
		return e
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count[k]++; l.count[k] == 1 {
		l.first[k] = e
	}
	return nil
}

// Report sends one warning for each kind of loss that there was.
func (l *Losses) Report(f progress.Func) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, n := range l.count {
		if n > 0 {
			f.Send(progress.Event{Kind: progress.Warning, Message: fmt.Sprintf("%d %s, such as of %v", n, text[k], l.first[k])})
		}
	}
}
