package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"peel/pkg/export"
	"peel/pkg/progress"
)

func newExportCommand(a *app) *cobra.Command {
	var req exportRequest
	var override bool
	cmd := &cobra.Command{
		Use:   "export [flags] CONTAINER|IMAGE|DIR",
		Short: "Write a root file system as one tar archive, or as an image",
		Long: `Write a root file system as one tar archive, to stdout or to a file.

CONTAINER is one that runs or has ended. IMAGE is in the store; nothing of it is
run. DIR is a bundle, of which the rootfs is exported, or with --rootfs the root
file system itself. The same tree gives the same archive. With -o, FILE appears
when it is complete.

With --to it becomes an image, which is added to an OCI layout if DIR is one. What
a container has changed of its image is a layer on top of that image's; all else is
one layer, and an image stays as it is. The new image has the config of the old
one with each --change. With SOURCE_DATE_EPOCH as its time it is reproducible.`,
		Example: `  peel export -o web.tar web
  peel export nginx:latest | tar -t
  peel export --rootfs /srv/debian | zstd > debian.tar.zst
  peel export --to oci:layout:mine --change 'CMD ["nginx"]' web
  skopeo copy oci:layout:mine docker://registry.example.org/mine`,
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
	flags.StringVar(&req.commit.to, "to", "", "make an image: `FORM` is oci:DIR[:TAG] or oci-archive:FILE[:TAG]")
	flags.StringArrayVarP(&req.commit.changes, "change", "c", nil, "apply a Dockerfile `INSTRUCTION` to the image's config")
	flags.StringVarP(&req.commit.author, "author", "a", "", "`NAME` of the image's author")
	flags.StringVarP(&req.commit.message, "message", "m", "", "`TEXT` for the image's history")
	flags.StringVar(&req.commit.compression, "compression", "", "compress the new layer: gzip (the default), zstd or none")
	return cmd
}

// exportRequest is one export as the command line asks for it.
type exportRequest struct {
	dir, output string
	rootfs      bool
	opts        export.Options
	commit      commitFlags
}

func (a *app) export(ctx context.Context, req exportRequest) error {
	switch _, isTerminal := terminal(a.stdout); {
	case req.dir == "":
		return usageError{nil, errors.New("nothing is named to be exported")}
	case req.commit.to != "" && req.output != "":
		return usageError{nil, errors.New("--output and --to: want one of them")}
	case req.commit.to == "" && req.commit.given():
		return usageError{nil, errors.New("--author, --message, --change and --compression go with --to")}
	case req.commit.to == "" && req.output == "" && isTerminal:
		return usageError{nil, errors.New("an archive is nothing for a terminal: name a file with -o, or send it through a pipe")}
	}
	ui, err := a.newUI(false, progress.Unpacked)
	if err != nil {
		return err
	}
	defer ui.close()
	req.opts.Progress = ui.event
	if req.commit.to != "" {
		return a.exportTo(ctx, req)
	}
	src, err := a.exportSource(req.dir, req.rootfs)
	if err != nil {
		return err
	}
	defer src.close()
	if req.output == "" {
		widen(a.stdout)
		return src.write(ctx, a.stdout, req.opts)
	}
	return replaceFile(req.output, func(w io.Writer) error { return src.write(ctx, w, req.opts) })
}

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
