package run

import (
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"peel/internal/detached"
	"peel/pkg/run/internal/jsonlog"
	"peel/pkg/run/internal/monitor"
	"peel/pkg/run/internal/proto"
)

// StartDetached starts the container under a monitor, a process of its own that
// keeps the container's output and exit code and outlives this one. When it
// returns nil the image's program runs.
func (c *Container) StartDetached() error {
	s, err := c.Status()
	if err != nil {
		return err
	}
	if s.Phase == Running {
		return ErrRunning
	}
	tree, err := c.openTree()
	if err != nil {
		return err
	}
	cfg := monitorConfig{Data: c.rt.data, Run: c.rt.run, ID: c.ID}
	if tree == nil {
		return monitor.Detach(cfg, nil)
	}
	defer tree.Close()
	mount, err := tree.Dup()
	if err != nil {
		return err
	}
	defer mount.Close()
	cfg.Tree, cfg.TreeKey = true, tree.key
	return monitor.Detach(cfg, mount)
}

// monitorConfig is what the monitor is told.
type monitorConfig struct {
	Data string `json:"data"`
	Run  string `json:"run"`
	ID   string `json:"id"`
	// Tree: descriptor proto.FirstFD is the tree of the container's image.
	Tree    bool   `json:"tree,omitempty"`
	TreeKey string `json:"treeKey,omitempty"`
}

// monitorMain is the monitor. It does not return.
func monitorMain() {
	unix.CloseOnExec(proto.ReportFD)
	// Caught and dropped, not ignored: what is ignored stays so in the
	// container's programs.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGPIPE, syscall.SIGUSR1, syscall.SIGUSR2)
	var cfg monitorConfig
	err := proto.ReadConfig(&cfg)
	if err == nil {
		handed := proto.FirstFD
		if cfg.Tree {
			handed++
		}
		err = proto.CloseInherited(handed)
	}
	if err == nil {
		rt := &Runtime{data: cfg.Data, run: cfg.Run}
		var c *Container
		if c, err = rt.load(cfg.ID); err == nil {
			if cfg.Tree {
				unix.CloseOnExec(proto.FirstFD)
				c.tree.Store(&Tree{detached.New(proto.FirstFD, "image"), cfg.TreeKey})
			}
			err = c.monitor(func() { reportStarted(nil) })
		}
	}
	if err != nil {
		reportStarted(err)
		os.Exit(125)
	}
	os.Exit(0)
}

// reportStarted tells the caller how the start went, once, and lets it go.
func reportStarted(err error) {
	r := proto.Report{Stage: "exec"}
	if err != nil {
		r.Stage = "failed"
		if !errors.As(err, &r.Failure) {
			r.Failure = &proto.Failure{Stage: "start", Text: err.Error()}
		}
	}
	_ = proto.Send(proto.ReportFD, r) // a caller that is gone needs no answer
	_ = unix.Close(proto.ReportFD)
}

// monitor runs the container to its end and keeps what it prints. An error is of
// the start; what goes wrong later can be told to nobody but is kept in exit.json
// where it can.
func (c *Container) monitor(started func()) error {
	log, err := jsonlog.Create(c.logFile(), 0)
	if err != nil {
		return err
	}
	defer log.Close()
	outR, outW, err := os.Pipe()
	if err != nil {
		return err
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		return err
	}
	p, err := c.Start(Streams{Out: outW, Err: errW})
	outW.Close()
	errW.Close()
	if err != nil {
		return err
	}
	started()
	var copies sync.WaitGroup
	sources := map[string]*os.File{"stdout": outR, "stderr": errR}
	if p.Terminal != nil {
		sources = map[string]*os.File{"stdout": p.Terminal}
	}
	for stream, r := range sources {
		copies.Go(func() { _ = log.Copy(stream, r) }) // ends with the last writer, or below
	}
	// From here to the end there is nothing to do but copy.
	monitor.Shrink()
	p.beforeEnd = func() {
		// All writers were in the container and are gone, unless somebody on the
		// host holds its output open: he is not waited for.
		for _, r := range sources {
			_ = r.SetReadDeadline(time.Now().Add(time.Second))
		}
		copies.Wait()
	}
	_, _ = p.Wait()
	return nil
}

func (c *Container) logFile() string { return filepath.Join(c.rt.dataDir(c.ID), "output.log") }
