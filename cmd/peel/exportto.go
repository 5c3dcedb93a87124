package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/pkg/commit"
	"peel/pkg/export"
	"peel/pkg/layers"
	"peel/pkg/layout"
)

// destination is what --to says.
type destination struct {
	path, tag string
	archive   bool // one file instead of a directory
}

const defaultTag = "latest"

// parseDestination reads oci:DIR[:TAG] and oci-archive:FILE[:TAG], of which DIR and
// FILE have no colon, as in skopeo.
func parseDestination(word string) (destination, error) {
	form, rest, _ := strings.Cut(word, ":")
	path, tag, tagged := strings.Cut(rest, ":")
	if !tagged {
		tag = defaultTag
	}
	switch {
	case form != "oci" && form != "oci-archive" || path == "":
		return destination{}, fmt.Errorf("--to %q: want oci:DIR[:TAG] or oci-archive:FILE[:TAG]", word)
	case !layout.ValidTag(tag):
		return destination{}, fmt.Errorf("--to %q: %q is no tag that an image can have", word, tag)
	}
	return destination{path, tag, form == "oci-archive"}, nil
}

// commitFlags are the flags of export that go with --to.
type commitFlags struct {
	to, author, message, compression string
	changes                          []string
}

// given tells whether any flag is there that needs --to.
func (f *commitFlags) given() bool {
	return f.author != "" || f.message != "" || f.compression != "" || len(f.changes) > 0
}

func (f *commitFlags) options(now time.Time) (commit.Options, error) {
	o := commit.Options{Author: f.author, Comment: f.message, CreatedBy: "peel export", Created: now, Compression: layers.Compression(f.compression)}
	switch o.Compression {
	case "", layers.Gzip, layers.Zstd, layers.None:
	default:
		return o, fmt.Errorf("--compression %q: want gzip, zstd or none", f.compression)
	}
	for _, line := range f.changes {
		c, err := commit.ParseChange(line)
		if err != nil {
			return o, fmt.Errorf("--change %w", err)
		}
		o.Changes = append(o.Changes, c)
	}
	// reproducible-builds.org/specs/source-date-epoch
	if epoch, ok := os.LookupEnv("SOURCE_DATE_EPOCH"); ok {
		sec, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil || sec < 0 {
			return o, fmt.Errorf("SOURCE_DATE_EPOCH %q: want seconds since 1970", epoch)
		}
		o.Created = time.Unix(sec, 0)
	}
	return o, nil
}

// exportTo makes an image in a layout, and prints the digest of its manifest.
func (a *app) exportTo(ctx context.Context, req exportRequest) error {
	to, err := parseDestination(req.commit.to)
	if err != nil {
		return usageError{nil, err}
	}
	o, err := req.commit.options(time.Now())
	if err != nil {
		return usageError{nil, err}
	}
	src, err := a.exportSource(req.dir, req.rootfs)
	if err != nil {
		return err
	}
	defer src.close()
	if src.image != nil && req.commit.given() {
		return usageError{nil, errors.New("an image is written as it is: --author, --message, --change and --compression are for containers and bundles")}
	}
	if src.image != nil {
		if err := whole(src.st, src.image); err != nil {
			return err
		}
	}
	stage, err := to.stage()
	if err != nil {
		return err
	}
	d, err := a.makeImage(ctx, stage, src, req.opts, o)
	if err == nil && to.archive {
		err = replaceFile(to.path, func(w io.Writer) error { return stage.Archive(w, d, to.tag) })
	} else if err == nil {
		err = stage.Publish(ctx, d, to.tag)
	}
	if err := errors.Join(err, stage.Close()); err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.stdout, d.Digest)
	return err
}

func (d destination) stage() (*layout.Stage, error) {
	if d.archive {
		return layout.NewArchive(filepath.Dir(d.path))
	}
	return layout.New(d.path)
}

// makeImage puts an image of the source into the stage.
func (a *app) makeImage(ctx context.Context, stage *layout.Stage, src *exportSource, opts export.Options, o commit.Options) (ocispec.Descriptor, error) {
	if src.image != nil {
		return commit.Copy(ctx, stage, src.st, src.image)
	}
	st, err := a.openStore()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer st.Close()
	base, err := src.base(st)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	opts.Kind = export.Layer
	if len(base.Layers) > 0 {
		opts.Kind = export.Changes
		if err := commit.CopyLayers(ctx, stage, st, base.Layers); err != nil {
			return ocispec.Descriptor{}, err
		}
	}
	return commit.Layer(stage, base, func(w io.Writer) error { return src.write(ctx, w, opts) }, o)
}
