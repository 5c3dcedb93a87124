package unpack

import (
	"fmt"
	"sync"

	"peel/pkg/progress"
)

// loss is a kind of thing that could not be restored.
type loss int

const (
	lostOwner loss = iota
	lostDevice
	lostXattr
	lostOverlay
	kindsOfLoss
)

// text says what a loss is, after a number.
var text = [kindsOfLoss]string{
	lostOwner:   "owners not restored",
	lostDevice:  "devices made as empty files",
	lostXattr:   "extended attributes not restored",
	lostOverlay: "extended attributes left out",
}

// losses counts what could not be restored, so that a thousand files make one
// warning. If strict, the first one is an error.
type losses struct {
	strict bool

	mu    sync.Mutex // guards what is below
	count [kindsOfLoss]int64
	first [kindsOfLoss]error
}

func (l *losses) lose(k loss, name, op string, err error) error {
	e := &EntryError{Name: name, Op: op, Err: err}
	if l.strict {
		return e
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count[k]++; l.count[k] == 1 {
		l.first[k] = e
	}
	return nil
}

// report sends one warning for each kind of loss that there was.
func (l *losses) report(f progress.Func) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, n := range l.count {
		if n > 0 {
			f.Send(progress.Event{Kind: progress.Warning, Message: fmt.Sprintf("%d %s, such as of %v", n, text[k], l.first[k])})
		}
	}
}
