package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/go-units"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"peel/internal/beneath"
	"peel/pkg/cp"
	"peel/pkg/export"
	"peel/pkg/progress"
	"peel/pkg/run"
)

// cpRequest is one cp as the command line asks for it.
type cpRequest struct {
	archive, follow, quiet bool
}

func newCpCommand(a *app) *cobra.Command {
	var req cpRequest
	cmd := &cobra.Command{
		Use:   "cp [flags] CONTAINER:PATH DEST|-  or  cp [flags] SRC|- CONTAINER:PATH",
		Short: "Copy files out of a container or into one, running or not",
		Long: `Copy files out of a container or into one, running or not. "-" is a tar archive,
written to stdout or read from stdin. DIR/. is the content of a directory.

What goes in belongs to the container's root, what comes out to you, without
set-id bits and attributes; -a keeps all of them. Nothing that a container does
meanwhile leads a copy out of it.`,
		Example: `  peel cp web:/etc/nginx ./nginx
  peel cp index.html web:/usr/share/nginx/html/
  peel cp web:/var/log - | tar -t`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return a.cp(cmd.Context(), args[0], args[1], req) },
	}
	flags := cmd.Flags()
	flags.BoolVarP(&req.archive, "archive", "a", false, "keep owners, set-id bits and extended attributes")
	flags.BoolVarP(&req.follow, "follow-link", "L", false, "copy what SRC leads to, if it is a link")
	flags.BoolVarP(&req.quiet, "quiet", "q", false, "do not tell how much was copied")
	return cmd
}

// containerPath splits CONTAINER:PATH. What begins with "/" or "." is the host's, as
// docker has it.
func containerPath(word string) (container, path string, ok bool) {
	if strings.HasPrefix(word, "/") || strings.HasPrefix(word, ".") {
		return "", "", false
	}
	container, path, ok = strings.Cut(word, ":")
	return container, path, ok && container != ""
}

func (a *app) cp(ctx context.Context, from, to string, req cpRequest) error {
	_, _, out := containerPath(from)
	_, _, in := containerPath(to)
	switch {
	case out && in:
		return usageError{nil, errors.New("between two containers nothing is copied at once: copy it out of one, then into the other")}
	case !out && !in:
		return usageError{nil, errors.New("neither is CONTAINER:PATH")}
	case from == "" || to == "":
		return usageError{nil, errors.New("a path is empty")}
	}
	ui, err := a.newUI(false, progress.Unpacked)
	if err != nil {
		return err
	}
	defer ui.close()
	o := cp.Options{FollowLink: req.follow, Privileges: req.archive, Progress: ui.event}
	unix.Umask(0) // files get the modes that they had
	var copied cp.Copied
	if out {
		copied, err = a.copyOut(ctx, from, to, req, o)
	} else {
		copied, err = a.copyIn(ctx, from, to, req, o)
	}
	if err != nil || req.quiet || to == "-" {
		return err
	}
	ui.line("Successfully copied %s to %s", units.HumanSizeWithPrecision(float64(copied.Bytes), 3), printable(to))
	return nil
}

func (a *app) copyOut(ctx context.Context, from, to string, req cpRequest, o cp.Options) (cp.Copied, error) {
	name, path, _ := containerPath(from)
	if _, isTerminal := terminal(a.stdout); to == "-" && isTerminal {
		return cp.Copied{}, usageError{nil, errors.New("an archive is nothing for a terminal: name a file, or send it through a pipe")}
	}
	c, err := a.container(name)
	if err != nil {
		return cp.Copied{}, err
	}
	root, err := c.OpenRoot()
	if err != nil {
		return cp.Copied{}, cannotOpen(name, err)
	}
	src := cp.Place{Root: beneath.New(root), Path: path}
	defer src.Root.Close()
	if os.Geteuid() != 0 {
		o.Form = export.OverrideStat // in which a user's containers have what he may not
	}
	if to == "-" {
		widen(a.stdout)
		return cp.Copied{}, cp.Pack(ctx, src, a.stdout, o)
	}
	if req.archive {
		ids, err := idsOf(c)
		if err != nil {
			return cp.Copied{}, err
		}
		o.Owner = ids.inside
	}
	dst, err := hostPlace(to)
	if err != nil {
		return cp.Copied{}, err
	}
	defer dst.Root.Close()
	return cp.Copy(ctx, src, dst, o)
}

func (a *app) copyIn(ctx context.Context, from, to string, req cpRequest, o cp.Options) (cp.Copied, error) {
	name, path, _ := containerPath(to)
	c, err := a.container(name)
	if err != nil {
		return cp.Copied{}, err
	}
	ids, err := idsOf(c)
	if err != nil {
		return cp.Copied{}, err
	}
	o.Devices = true // they are the user's own
	o.Owner = func(uid, gid int) (int, int) { return ids.outside(0, 0) }
	if req.archive {
		o.Owner = ids.outside
	}
	root, err := c.OpenWritableRoot()
	if err != nil {
		return cp.Copied{}, cannotOpen(name, err)
	}
	defer root.Close()
	dst := cp.Place{Root: beneath.New(root.File), Path: path}
	if from == "-" {
		return cp.Unpack(ctx, os.Stdin, dst, o)
	}
	src, err := hostPlace(from)
	if err != nil {
		return cp.Copied{}, err
	}
	defer src.Root.Close()
	return cp.Copy(ctx, src, dst, o)
}

// cannotOpen says whose file system could not be opened.
func cannotOpen(name string, err error) error {
	if errors.Is(err, run.ErrNotRunning) {
		return fmt.Errorf("%s: %w, and only root opens the files of one that does not", name, err)
	}
	return fmt.Errorf("%s: %w", name, err)
}

// hostPlace is a path of the host's, which keeps the "/" or "/." at its end.
func hostPlace(path string) (cp.Place, error) {
	full, err := filepath.Abs(path)
	if err != nil {
		return cp.Place{}, err
	}
	switch {
	case path == "." || strings.HasSuffix(path, "/."):
		full += "/."
	case strings.HasSuffix(path, "/"):
		full += "/"
	}
	root, err := beneath.OpenDir("/")
	return cp.Place{Root: root, Path: full}, err
}

// idMaps is how a container counts the host's ids.
type idMaps struct{ uids, gids []specs.LinuxIDMapping }

func idsOf(c *run.Container) (idMaps, error) {
	spec, err := c.Spec()
	if err != nil || spec.Linux == nil {
		return idMaps{}, err
	}
	return idMaps{spec.Linux.UIDMappings, spec.Linux.GIDMappings}, nil
}

// overflow is the id of whom a user namespace has no id for.
const overflow = 65534

func (m idMaps) outside(uid, gid int) (int, int) {
	return mapID(m.uids, uid, false), mapID(m.gids, gid, false)
}

func (m idMaps) inside(uid, gid int) (int, int) {
	return mapID(m.uids, uid, true), mapID(m.gids, gid, true)
}

func mapID(maps []specs.LinuxIDMapping, id int, inside bool) int {
	for _, m := range maps {
		from, to := int(m.ContainerID), int(m.HostID)
		if inside {
			from, to = to, from
		}
		if id >= from && id < from+int(m.Size) {
			return id - from + to
		}
	}
	switch {
	case len(maps) == 0:
		return id
	case inside:
		return overflow
	}
	return unchanged // nobody in there has that id
}

// unchanged leaves an owner as it is, in the words of chown(2).
const unchanged = -1
