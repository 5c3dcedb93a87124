package run

import (
	"errors"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"peel/internal/detached"
	"peel/pkg/run/internal/monitor"
	"peel/pkg/run/internal/proto"
)

// StartDetached starts the container under a monitor, a process of its own that
// keeps the container's output and exit code, starts it again as its restart
// policy says, and outlives this process. When it returns nil the image's program
// runs.
func (c *Container) StartDetached() error { return c.startMonitor(nil) }

// startMonitor starts the monitor, which attaches whoever holds the other end of
// first before the program begins.
func (c *Container) startMonitor(first *os.File) error {
	s, err := c.Status()
	if err != nil {
		return err
	}
	if s.Phase == Running || s.Phase == Restarting {
		return ErrRunning
	}
	tree, err := c.openTree()
	if err != nil {
		return err
	}
	cfg := monitorConfig{Data: c.rt.data, Run: c.rt.run, ID: c.ID, Attached: first != nil}
	var files []*os.File
	if tree != nil {
		defer tree.Close()
		mount, err := tree.Dup()
		if err != nil {
			return err
		}
		defer mount.Close()
		cfg.Tree, cfg.TreeKey = true, tree.key
		files = append(files, mount)
	}
	if first != nil {
		files = append(files, first)
	}
	err = monitor.Detach(cfg, files...)
	if errors.Is(err, errAlready) {
		return ErrRunning
	}
	return err
}

// errAlready is ErrRunning on its way from the monitor.
const errAlready = unix.EALREADY

// monitorConfig is what the monitor is told.
type monitorConfig struct {
	Data string `json:"data"`
	Run  string `json:"run"`
	ID   string `json:"id"`
	// Tree: the next descriptor from proto.FirstFD on is the tree of the
	// container's image.
	Tree    bool   `json:"tree,omitempty"`
	TreeKey string `json:"treeKey,omitempty"`
	// Attached: the next one is the connection of somebody who is attached.
	Attached bool `json:"attached,omitempty"`
}

// monitorMain is the monitor. It does not return.
func monitorMain(find ImageFinder) {
	unix.CloseOnExec(proto.ReportFD)
	// Caught and dropped, not ignored: what is ignored stays so in the
	// container's programs.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGPIPE, syscall.SIGUSR1, syscall.SIGUSR2)
	if err := monitorOnce(find); err != nil {
		reportStarted(err)
		os.Exit(125)
	}
	os.Exit(0)
}

// monitorOnce is the monitor until the container ends. An error is of the start.
func monitorOnce(find ImageFinder) error {
	var cfg monitorConfig
	if err := proto.ReadConfig(&cfg); err != nil {
		return err
	}
	next := proto.FirstFD
	handed := func() int {
		unix.CloseOnExec(next)
		next++
		return next - 1
	}
	rt := &Runtime{data: cfg.Data, run: cfg.Run}
	if find != nil {
		rt.findImage = func(i Image) (Source, error) { return find(cfg.Data, i) }
	}
	var tree *Tree
	var first *os.File
	if cfg.Tree {
		tree = &Tree{detached.New(handed(), "image"), cfg.TreeKey}
	}
	if cfg.Attached {
		first = os.NewFile(uintptr(handed()), "attached")
	}
	if err := proto.CloseInherited(next); err != nil {
		return err
	}
	c, err := rt.load(cfg.ID)
	if err != nil {
		return err
	}
	c.tree.Store(tree)
	k := &keeper{c: c, hub: monitor.NewHub(), stop: make(chan struct{})}
	if first != nil {
		conn, err := net.FileConn(first)
		first.Close()
		if err != nil {
			return err
		}
		k.hub.Attach(conn.(*net.UnixConn))
	}
	return k.keep(func() { reportStarted(nil) })
}

// reportStarted tells the caller how the start went, once, and lets it go.
func reportStarted(err error) {
	r := proto.Report{Stage: "exec"}
	if err != nil {
		r.Stage = "failed"
		if !errors.As(err, &r.Failure) {
			r.Failure = &proto.Failure{Stage: "start", Text: err.Error()}
		}
		if errors.Is(err, ErrRunning) {
			r.Failure.Errno = errAlready
		}
	}
	_ = proto.Send(proto.ReportFD, r) // a caller that is gone needs no answer
	_ = unix.Close(proto.ReportFD)
}

func (c *Container) logFile() string { return filepath.Join(c.rt.dataDir(c.ID), "output.log") }
