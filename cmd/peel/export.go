package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"peel/pkg/export"
	"peel/pkg/progress"
	"peel/pkg/run"
)

func newExportCommand(a *app) *cobra.Command {
	var req exportRequest
	var override bool
	cmd := &cobra.Command{
		Use:   "export [flags] CONTAINER|DIR",
		Short: "Write a root file system as one tar archive",
		Long: `Write a root file system as one tar archive, to stdout or to a file.

CONTAINER is one that runs or has ended. DIR is a bundle, of which the rootfs is exported, or with --rootfs the root file
system itself. Entries are sorted: the same tree gives the same archive. With
-o, FILE appears when the archive is complete.`,
		Example: `  peel export -o nginx.tar ./nginx
  peel export -o web.tar web
  peel export ./nginx | tar -t
  peel export --rootfs /srv/debian | zstd > debian.tar.zst`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.dir = args[0]
			if override {
				req.opts.Form = export.OverrideStat
			}
			return a.export(cmd.Context(), req)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&req.output, "output", "o", "", "write to `FILE` instead of stdout")
	flags.BoolVar(&req.rootfs, "rootfs", false, "DIR is the root file system itself, without a bundle around it")
	flags.BoolVar(&req.opts.Mounts, "mounts", false, "include what is mounted in the tree")
	flags.BoolVar(&override, "override-stat", false, "take owners, modes and devices from the files' user.containers.override_stat")
	return cmd
}

// exportRequest is one export as the command line asks for it.
type exportRequest struct {
	dir, output string
	rootfs      bool
	opts        export.Options
}

func (a *app) export(ctx context.Context, req exportRequest) error {
	_, isTerminal := terminal(a.stdout)
	if req.output == "" && isTerminal {
		return usageError{nil, errors.New("an archive is nothing for a terminal: name a file with -o, or send it through a pipe")}
	}
	ui, err := a.newUI(false, progress.Unpacked)
	if err != nil {
		return err
	}
	defer ui.close()
	req.opts.Progress = ui.event
	root, err := a.openExported(req)
	if err != nil {
		return err
	}
	defer root.Close()
	if req.output == "" {
		widen(a.stdout)
		return export.Tree(ctx, root, a.stdout, req.opts)
	}
	return replaceFile(req.output, func(w io.Writer) error { return export.Tree(ctx, root, w, req.opts) })
}

// openExported opens a directory, or else the root of a container of that name.
func (a *app) openExported(req exportRequest) (*os.File, error) {
	root, err := openRootfs(req.dir, req.rootfs)
	if !errors.Is(err, os.ErrNotExist) || req.rootfs || strings.Contains(req.dir, "/") {
		return root, err
	}
	c, cerr := a.container(req.dir)
	if errors.Is(cerr, run.ErrNotFound) {
		return nil, err
	}
	if cerr != nil {
		return nil, cerr
	}
	return c.OpenRoot()
}

// openRootfs opens the root file system that dir is, or holds as a bundle: then
// it is the directory called rootfs. What config.json says is not asked, for it
// may be a file of an image's that calls itself a bundle.
func openRootfs(dir string, bare bool) (*os.File, error) {
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC
	if bare {
		return os.OpenFile(dir, flags, 0)
	}
	if _, err := os.Lstat(filepath.Join(dir, "config.json")); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			if _, dirErr := os.Stat(dir); dirErr == nil {
				return nil, notBundleError(dir)
			}
		}
		return nil, err
	}
	return os.OpenFile(filepath.Join(dir, "rootfs"), flags|unix.O_NOFOLLOW, 0)
}

// notBundleError names a directory that was to be a bundle.
type notBundleError string

func (e notBundleError) Error() string { return string(e) + " is no bundle: it has no config.json" }

// widen lets more of the archive wait in a pipe, which saves both sides from
// taking turns. It is no matter if w is none.
func widen(w io.Writer) {
	const size = 1 << 20 // what /proc/sys/fs/pipe-max-size allows everybody
	if f, ok := w.(*os.File); ok {
		unix.FcntlInt(f.Fd(), unix.F_SETPIPE_SZ, size)
	}
}

// replaceFile makes the file at path of what write writes, in one step when that
// has succeeded. What is no regular file, like /dev/null and the link that
// /dev/stdout is, is written to where it stands.
func replaceFile(path string, write func(io.Writer) error) (err error) {
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600: shadow is among the files
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if err := write(f); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
