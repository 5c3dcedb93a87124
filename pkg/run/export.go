package run

import (
	"context"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"peel/internal/userns"
	"peel/pkg/export"
	"peel/pkg/progress"
	"peel/pkg/run/internal/monitor"
	"peel/pkg/run/internal/proto"
)

// Export writes the container's file system to w as export.Tree does, whether it
// runs or not. Owners are those that the container sees: with a user namespace of
// its own, the tree is read by a process in one like it. With export.Changes it is
// what the container has changed of its image, or ErrNoBase; o.UserXattr and
// o.Places are found out.
func (c *Container) Export(ctx context.Context, w io.Writer, o export.Options) error {
	spec, err := c.Spec()
	if err != nil {
		return err
	}
	_, ownUser := namespace(spec, specs.UserNamespace)
	open := c.OpenRoot
	if o.Kind == export.Changes {
		open, o.UserXattr, o.Places = c.OpenChanges, ownUser, places(spec)
	}
	root, err := open()
	inside := errors.Is(err, ErrNotRunning) && os.Geteuid() != 0 // there an overlay can be made
	if err != nil && !inside {
		return err
	}
	if root != nil {
		defer root.Close()
	}
	if !ownUser || len(spec.Linux.UIDMappings) == 0 {
		if err != nil {
			return err
		}
		return export.Tree(ctx, root, w, o)
	}
	if os.Geteuid() != 0 {
		o.Form = export.OverrideStat // there it is what the user could not have
	}
	maps := userns.Maps{UIDs: spec.Linux.UIDMappings, GIDs: spec.Linux.GIDMappings}
	cfg := exportConfig{Data: c.rt.data, Run: c.rt.run, ID: c.ID, Opened: root != nil}
	return exportInside(ctx, maps, cfg, root, w, o)
}

// ExportOwn writes a tree of a user's as a container of his would see it: what is
// his belongs to root, and what belongs to his subordinate ids to others. root
// stays the caller's.
func ExportOwn(ctx context.Context, root *os.File, w io.Writer, o export.Options) error {
	maps := userns.Own()
	o.Form = export.OverrideStat // what he could not have
	if !maps.NeedsHelpers() {
		return export.Tree(ctx, root, w, o) // all that is his becomes root's
	}
	return exportInside(ctx, maps, exportConfig{Opened: true}, root, w, o)
}

// OpenChanges opens the upper directory of the overlay that a container of an image
// has its changes in: ErrNoBase. The file is the caller's.
func (c *Container) OpenChanges() (*os.File, error) {
	if c.Root.Image == nil {
		return nil, ErrNoBase
	}
	return os.OpenFile(filepath.Join(c.rt.dataDir(c.ID), "upper"), openRootFlags|unix.O_NOFOLLOW, 0)
}

// places is where something is mounted in the container.
func places(spec *specs.Spec) map[string]bool {
	at := map[string]bool{}
	for _, m := range spec.Mounts {
		at[strings.TrimPrefix(path.Clean(m.Destination), "/")] = true
	}
	return at
}

// exportConfig is what the program is told that reads a tree in a user namespace.
type exportConfig struct {
	// Opened: descriptor proto.FirstFD is the tree. Otherwise it is to open the
	// root of a container.
	Opened  bool
	Data    string
	Run     string
	ID      string
	Options exportOptions
}

// exportOptions are export.Options without what no process can be told.
type exportOptions struct {
	Form      export.Form
	Kind      export.Kind
	UserXattr bool
	Places    map[string]bool
	Mounts    bool
}

func exportInside(ctx context.Context, maps userns.Maps, cfg exportConfig, root *os.File, w io.Writer, o export.Options) error {
	cfg.Options = exportOptions{o.Form, o.Kind, o.UserXattr, o.Places, o.Mounts}
	warn := func(message string) { o.Progress.Send(progress.Event{Kind: progress.Warning, Message: message}) }
	out, ok := w.(*os.File)
	if ok {
		return monitor.Export(ctx, maps, cfg, root, out, warn)
	}
	r, out, err := os.Pipe()
	if err != nil {
		return err
	}
	copied := make(chan error, 1)
	go func() {
		_, err := io.Copy(w, r)
		// Who still writes learns of it.
		copied <- errors.Join(err, r.Close())
	}()
	err = monitor.Export(ctx, maps, cfg, root, out, warn)
	out.Close()
	if failed := <-copied; failed != nil {
		return failed // of which the other error came
	}
	return err
}

// exportMain reads a tree as root of a user namespace and writes the archive to its
// standard output. It does not return.
func exportMain() {
	unix.CloseOnExec(proto.ReportFD)
	var cfg exportConfig
	err := proto.ReadConfig(&cfg)
	if err == nil {
		go func() {
			// Nothing is ever sent: the parent is gone.
			for {
				if _, err := unix.Read(proto.ReportFD, make([]byte, 1)); err != unix.EINTR {
					os.Exit(125)
				}
			}
		}()
		err = cfg.export()
	}
	r := proto.Report{Stage: "done"}
	if err != nil {
		r.Stage = "failed"
		if !errors.As(proto.Fail("export", "", err), &r.Failure) {
			r.Failure = &proto.Failure{Stage: "export", Text: err.Error()}
		}
	}
	_ = proto.Send(proto.ReportFD, r)
	os.Exit(0)
}

func (cfg *exportConfig) export() (err error) {
	root := os.NewFile(proto.FirstFD, "root")
	if !cfg.Opened {
		c, err := (&Runtime{data: cfg.Data, run: cfg.Run}).load(cfg.ID)
		if err != nil {
			return err
		}
		if root, err = c.stoppedRoot(); err != nil {
			return err
		}
	}
	defer root.Close()
	return export.Tree(context.Background(), root, os.Stdout, export.Options{
		Form:      cfg.Options.Form,
		Kind:      cfg.Options.Kind,
		UserXattr: cfg.Options.UserXattr,
		Places:    cfg.Options.Places,
		Mounts:    cfg.Options.Mounts,
		Progress: func(e progress.Event) {
			_ = proto.Send(proto.ReportFD, proto.Report{Stage: "warning", Text: e.Message})
		},
	})
}
