package run

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// RestartPolicy says whether a container that ends is started again, by the
// monitor that it runs under. After a reboot there is no monitor, and so it says
// nothing about that: Always and UnlessStopped are the same. The zero value is
// never.
type RestartPolicy struct {
	Name RestartName `json:"name,omitempty"`
	// MaximumRetryCount bounds the restarts of OnFailure, unless 0.
	MaximumRetryCount int `json:"maximumRetryCount,omitempty"`
}

// RestartName is docker's name for when.
type RestartName string

const (
	OnFailure     RestartName = "on-failure" // when its exit code is not 0
	Always        RestartName = "always"
	UnlessStopped RestartName = "unless-stopped"
)

// ParseRestartPolicy reads docker's no|on-failure[:MAX]|always|unless-stopped.
func ParseRestartPolicy(word string) (RestartPolicy, error) {
	name, limit, limited := strings.Cut(word, ":")
	p := RestartPolicy{Name: RestartName(name)}
	switch p.Name {
	case "", "no":
		p.Name = ""
	case OnFailure, Always, UnlessStopped:
	default:
		return RestartPolicy{}, fmt.Errorf("restart policy %q: want no, on-failure[:MAX], always or unless-stopped", word)
	}
	if !limited {
		return p, nil
	}
	var err error
	p.MaximumRetryCount, err = strconv.Atoi(limit)
	switch {
	case p.Name != OnFailure:
		return RestartPolicy{}, fmt.Errorf("restart policy %q: maximum retry count can only be used with 'on-failure'", word)
	case err != nil:
		return RestartPolicy{}, fmt.Errorf("restart policy %q: maximum retry count must be an integer", word)
	case p.MaximumRetryCount < 0:
		return RestartPolicy{}, fmt.Errorf("restart policy %q: maximum retry count cannot be negative", word)
	}
	return p, nil
}

// String is the policy as it is typed.
func (p RestartPolicy) String() string {
	switch {
	case p.Name == "":
		return "no"
	case p.MaximumRetryCount > 0:
		return fmt.Sprintf("%s:%d", p.Name, p.MaximumRetryCount)
	}
	return string(p.Name)
}

// Never says that the container is never started again.
func (p RestartPolicy) Never() bool { return p.Name == "" }

// again says whether one that has ended with code, and was started again count
// times, is to be started once more.
func (p RestartPolicy) again(code, count int) bool {
	switch p.Name {
	case Always, UnlessStopped:
		return true
	case OnFailure:
		return code != 0 && (p.MaximumRetryCount == 0 || count < p.MaximumRetryCount)
	}
	return false
}

// backoff is docker's time between two runs: 100 ms, twice as long each time up to
// a minute, and 100 ms again after a run of 10 s.
type backoff struct{ last time.Duration }

const (
	firstPause = 100 * time.Millisecond
	maxPause   = time.Minute
	soundRun   = 10 * time.Second
)

// next is the pause after a run that has lasted as long.
func (b *backoff) next(lasted time.Duration) time.Duration {
	if lasted > soundRun {
		b.last = 0
	}
	b.last = min(max(2*b.last, firstPause), maxPause)
	return b.last
}

// endsPolicy says whether a signal that somebody sends means that the container
// is to stay ended: docker's rule. Without a stop signal of its own any does.
func (c *Container) endsPolicy(sig syscall.Signal) bool {
	if c.StopSignal == "" || sig == unix.SIGKILL {
		return true
	}
	stop, err := ParseSignal(c.StopSignal)
	return err == nil && sig == stop
}

var errMonitorSilent = errors.New("its monitor does not answer")
