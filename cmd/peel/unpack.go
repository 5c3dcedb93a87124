package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"peel/internal/userns"
	"peel/pkg/bundle"
	"peel/pkg/image"
	"peel/pkg/progress"
	"peel/pkg/store"
	"peel/pkg/unpack"
)

func newUnpackCommand(a *app) *cobra.Command {
	var f pullFlags
	var o unpack.Options
	var rootfs bool
	var to, when, rootless string
	var limits limitFlag
	cmd := &cobra.Command{
		Use:   "unpack [flags] REFERENCE DIR",
		Short: "Unpack an image into a directory, or into one file",
		Long: `Unpack an image into DIR as an OCI runtime bundle: DIR/rootfs and DIR/config.json,
which runc, crun and others run as it is. With --rootfs, DIR is the bare root
file system. An image that is not in the store is pulled, and its layers are
unpacked while they arrive. DIR appears when everything has been verified.

With --to erofs, DIR is a file instead: a read-only file system that Linux mounts,
the same for everybody who makes it of the same image.

Users other than root need no privilege. With subordinate ids (subuid(5)), files
get owners among these, as a container sees them; without, or by --rootless=record,
all files are the user's own, and what the image says of them is recorded in the
attribute user.containers.override_stat. Either way the bundle runs, and 'peel
export' writes the image's owners.`,
		Example: `  peel unpack nginx:latest ./nginx
  peel unpack --rootfs debian:12 /srv/debian
  peel unpack --force --pull always nginx:latest ./nginx
  peel unpack --to erofs nginx:latest nginx.erofs`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Limits = limits.Limits
			req := unpackRequest{imageRequest: imageRequest{name: args[0], when: when}, dir: args[1], opts: o}
			if err := req.setForm(to, rootfs); err != nil {
				return err
			}
			if !req.erofs { // in which owners are but numbers
				if done, err := a.unpackMapped(cmd.Context(), rootless); done || err != nil {
					return err
				}
			}
			return a.unpack(cmd.Context(), req, f)
		},
	}
	f.register(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&rootfs, "rootfs", false, "make DIR the root file system itself, without a bundle around it")
	flags.StringVar(&to, "to", "", "the `FORM` to make: bundle (the default), rootfs, or erofs, all in one file")
	flags.BoolVar(&o.Force, "force", false, "replace what is at DIR, in one step, when the new content is complete")
	flags.BoolVar(&o.Strict, "strict", false, "fail where something of the image cannot be restored")
	flags.BoolVar(&o.Sync, "sync", false, "have all on disk before DIR appears, so that it survives a power failure")
	flags.StringVar(&rootless, "rootless", rootlessAuto, "`HOW` the owners of files are kept without root: map, record; auto is map where it can be had")
	limits.register(flags, true)
	flags.StringVar(&when, "pull", pullMissing, "`WHEN` to ask the registry: missing, always, never")
	return cmd
}

// unpackRequest is one unpack as the command line asks for it.
type unpackRequest struct {
	imageRequest
	dir  string
	opts unpack.Options
	// erofs: dir is to be a file, with an EROFS file system in it.
	erofs bool
	ids   *userns.Maps // of the user whose container it is going to be; nil for root
	// done, unless nil, is called when DIR is complete.
	done func(*store.Image) error
}

// setForm takes what --to and --rootfs say.
func (r *unpackRequest) setForm(to string, rootfs bool) error {
	if rootfs && to == "" {
		to = "rootfs"
	}
	switch {
	case rootfs && to != "rootfs":
		return usageError{nil, errors.New("--rootfs and --to: want one of them")}
	case to == "" || to == "bundle":
		r.opts.Form = unpack.Bundle
	case to == "rootfs":
		r.opts.Form = unpack.Rootfs
	case to == "erofs":
		r.erofs = true
	default:
		return usageError{nil, fmt.Errorf("--to %q: want bundle, rootfs or erofs", to)}
	}
	return nil
}

func (a *app) unpack(ctx context.Context, req unpackRequest, f pullFlags) error {
	if req.dir == "" { // which would be the working directory to filepath.Abs, and --force replace it
		return usageError{nil, errors.New("DIR is empty")}
	}
	return a.useImage(ctx, req.imageRequest, f, func(ctx context.Context, blobs unpack.Blobs, img *store.Image, report progress.Func) error {
		// Files get the modes that the image gives them, not what this umask leaves
		// of them; peel makes its own files with modes that need no umask.
		unix.Umask(0)
		req.opts.Progress, req.opts.Jobs = report, f.jobs
		// The image's root is this user, whose rights are not for others.
		req.opts.DropSetID = req.opts.Form == unpack.Rootfs && a.mapped
		var err error
		if req.ids, err = a.containerIDs(); err != nil {
			return err
		}
		return unpackInto(ctx, blobs, img, req)
	})
}

// containerIDs are the ids of a container that this user is root in: those with
// which its files are made; nil if he is root of the machine.
func (a *app) containerIDs() (*userns.Maps, error) {
	if a.mapped {
		ids, err := userns.Current()
		return &ids, err
	}
	if os.Geteuid() == 0 {
		return nil, nil
	}
	ids := userns.Single()
	return &ids, nil
}

// unpackInto makes DIR, or the file. For a bundle, config.json is written beside the finished
// rootfs, in which the names of the image's user are looked up.
func unpackInto(ctx context.Context, blobs unpack.Blobs, img *store.Image, req unpackRequest) error {
	o := req.opts
	if req.erofs {
		return image.WriteFile(ctx, blobs, img, req.dir, o.Force,
			image.Options{Strict: o.Strict, Jobs: o.Jobs, Limits: o.Limits, Progress: o.Progress})
	}
	if o.Form == unpack.Bundle {
		warn := func(message string) { o.Progress.Send(progress.Event{Kind: progress.Warning, Message: message}) }
		o.Finish = func(dir, rootfs *os.File) error {
			bo := bundle.Options{Warn: warn}
			if req.ids != nil {
				bo.Unprivileged = true
				bo.UIDMappings, bo.GIDMappings = req.ids.UIDs, req.ids.GIDs
			}
			return bundle.Write(dir, rootfs, img.Config, bo)
		}
	}
	lost := adrift()
	if _, err := unpack.Image(ctx, blobs, img, req.dir, o); err != nil {
		return err
	}
	if !lost && adrift() {
		o.Progress.Send(progress.Event{Kind: progress.Warning, Message: "the working directory was replaced: 'cd .' enters the new one"})
	}
	if req.done != nil {
		return req.done(img)
	}
	return nil
}

// adrift: the working directory is no longer anywhere, as after DIR has taken its
// place.
func adrift() bool {
	_, err := os.Getwd()
	return errors.Is(err, os.ErrNotExist)
}
