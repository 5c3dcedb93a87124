package run

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"peel/pkg/run/internal/jsonlog"
	"peel/pkg/run/internal/memory"
	"peel/pkg/run/internal/monitor"
	"peel/pkg/run/internal/proto"
)

// keeper is the monitor's work: to run a container, again as its policy says, to
// keep what it prints, and to pass it on to who is attached.
type keeper struct {
	c    *Container
	hub  *monitor.Hub
	lock *os.File
	log  *jsonlog.Writer

	// starting is held while the container is being started: who has it knows that
	// there is a process to kill, or none to come.
	starting sync.Mutex
	stop     chan struct{} // closed by who wants no further run; under starting
	between  bool          // two runs; under starting
}

// keep runs the container until its policy ends, and calls started when it runs
// for the first time. An error is of that start; what goes wrong later can be told
// to nobody, but is kept in exit.json where it can.
func (k *keeper) keep(started func()) (err error) {
	if k.lock, err = k.c.lock(); err != nil {
		return err
	}
	defer func() { k.lock.Close() }()
	if k.log, err = jsonlog.Create(k.c.logFile(), 0); err != nil {
		return err
	}
	defer k.log.Close()
	k.hub.Stop = k.noMore
	if err := k.hub.Listen(k.c.rt.runDir(k.c.ID)); err != nil {
		return err
	}
	defer k.hub.Close()
	r, err := k.start(0)
	if err != nil {
		return err
	}
	started()
	tell := k.runs(r)
	k.hub.Close()
	k.lock.Close()
	tell()
	k.hub.Wait()
	return nil
}

// runs waits for the end of the last run. What it returns tells that end to those
// who are still attached.
func (k *keeper) runs(r *running) (tell func()) {
	var pause backoff
	for restarts := 0; ; restarts++ {
		// From here to the end of the run there is nothing to do but copy.
		memory.Shrink()
		began := time.Now()
		r.process.again = func(code int) bool { return k.again(code, restarts) }
		code, again, _ := r.process.end()
		r.close()
		left := k.hub.End()
		if !again {
			return func() { left(code) }
		}
		left(code)
		if r = k.next(pause.next(time.Since(began)), restarts+1); r == nil {
			return func() {}
		}
	}
}

// next starts the container again after a pause; nil if that was called off, or
// has failed.
func (k *keeper) next(pause time.Duration, restarts int) *running {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-k.stop:
	}
	r, err := k.start(restarts)
	if err != nil {
		return nil // exit.json has why
	}
	return r
}

// again decides, when the program has ended with code, whether to start it again.
func (k *keeper) again(code, restarts int) bool {
	k.starting.Lock()
	defer k.starting.Unlock()
	k.between = !k.stopped() && k.c.Restart.again(code, restarts)
	return k.between
}

// stopped needs starting.
func (k *keeper) stopped() bool {
	select {
	case <-k.stop:
		return true
	default:
		return false
	}
}

// noMore ends the policy, and says whether that was between two runs.
func (k *keeper) noMore() bool {
	k.starting.Lock()
	defer k.starting.Unlock()
	if !k.stopped() {
		close(k.stop)
	}
	return k.between
}

// running is one run of the container and its streams.
type running struct {
	process *Process
	hub     *monitor.Hub
	ours    []*os.File // our ends of its streams
	copies  sync.WaitGroup
}

var errCalledOff = errors.New("the restart was called off")

// start starts the container.
func (k *keeper) start(restarts int) (*running, error) {
	k.starting.Lock()
	defer k.starting.Unlock()
	if restarts > 0 && k.stopped() {
		return nil, errors.Join(errCalledOff, k.c.dropState())
	}
	k.between = false
	r := &running{hub: k.hub}
	streams, err := r.pipes(k.c.OpenStdin)
	if err == nil {
		r.process, err = k.c.start(k.lock, streams, restarts)
	}
	for _, theirs := range []*os.File{streams.In, streams.Out, streams.Err} {
		if theirs != nil {
			theirs.Close()
		}
	}
	if err != nil {
		r.close()
		return nil, err
	}
	r.connect(k.log)
	return r, nil
}

// The places of our ends in running.ours. With a terminal they are not used.
const (
	outEnd = iota
	errEnd
	inEnd
)

// pipes makes the streams of a program. The program's ends are the caller's.
func (r *running) pipes(input bool) (theirs Streams, err error) {
	makers := []**os.File{&theirs.Out, &theirs.Err}
	for _, end := range makers {
		ours, w, err := os.Pipe()
		if err != nil {
			return theirs, err
		}
		*end = w
		r.ours = append(r.ours, ours)
	}
	if input {
		in, ours, err := os.Pipe()
		if err != nil {
			return theirs, err
		}
		theirs.In = in
		r.ours = append(r.ours, ours)
	}
	return theirs, nil
}

// connect copies what the program prints, and takes what is typed.
func (r *running) connect(log *jsonlog.Writer) {
	p := r.process
	type source struct {
		name string
		kind byte
		from *os.File
	}
	program := &monitor.Program{}
	sources := []source{{"stdout", proto.AttachOut, r.ours[outEnd]}, {"stderr", proto.AttachErr, r.ours[errEnd]}}
	if p.Terminal != nil {
		sources = []source{{"stdout", proto.AttachOut, p.Terminal}}
		program.In = p.Terminal
		program.Resize = func(rows, columns uint16) { _ = p.resize(&unix.Winsize{Row: rows, Col: columns}) }
	} else if len(r.ours) > inEnd {
		program.In = r.ours[inEnd]
	}
	r.hub.Begin(program)
	for _, s := range sources {
		r.copies.Go(func() { _ = log.Copy(s.name, io.TeeReader(s.from, r.hub.Stream(s.kind))) }) // ends with the last writer, or below
	}
	p.beforeEnd = func() {
		// All writers were in the container and are gone, unless somebody on the
		// host holds its output open: he is not waited for.
		r.hub.Drain()
		for _, s := range sources {
			_ = s.from.SetReadDeadline(time.Now().Add(time.Second))
		}
		r.copies.Wait()
	}
}

// close lets go of the streams of a program that has ended or never begun.
func (r *running) close() {
	for _, f := range r.ours {
		f.Close()
	}
}
