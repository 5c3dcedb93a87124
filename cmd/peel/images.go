package main

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"peel/pkg/registry"
	"peel/pkg/store"
)

// imagesRequest is one images as the command line asks for it.
type imagesRequest struct {
	listFlags
	digests bool
	pattern string // of references; empty is all
}

func newImagesCommand(a *app) *cobra.Command {
	var req imagesRequest
	cmd := &cobra.Command{
		Use:   "images [flags] [REPOSITORY[:TAG]]",
		Short: "List the images in the store",
		Long: `List the images in the store. SIZE is what the image takes there, compressed;
IMAGE ID is its config's digest.`,
		Example: `  peel images
  peel images --filter reference='debian:*'
  peel images --format '{{.Repository}}:{{.Tag}} {{.Size}}'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				req.pattern = args[0]
			}
			return a.images(req)
		},
	}
	req.register(cmd, "reference, label, before, since, dangling")
	cmd.Flags().BoolVar(&req.digests, "digests", false, "print the digests that the references had at their registries")
	return cmd
}

const (
	imageColumns       = `{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}`
	imageDigestColumns = `{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}`
)

func (a *app) images(req imagesRequest) error {
	columns := imageColumns
	if req.digests {
		columns = imageDigestColumns
	}
	out, err := newRowPrinter[imageRow](req.listFlags, columns)
	if err != nil {
		return err
	}
	st, err := a.openStore()
	if err != nil {
		return err
	}
	defer st.Close()
	filter, err := newImageFilter(req, st)
	if err != nil {
		return err
	}
	imgs, broken := st.Images()
	now := time.Now()
	var rows []imageRow
	for _, img := range imgs {
		if filter.take(img) {
			rows = append(rows, newImageRow(img, now, req.noTrunc))
		}
	}
	return errors.Join(out.print(a.stdout, rows), broken)
}

// imageRow is an image as a line of images, by the names that docker gives to its
// fields, sorted.
type imageRow struct {
	CreatedAt    string `heading:"CREATED AT"`
	CreatedSince string `heading:"CREATED"`
	Digest       string
	ID           string `heading:"IMAGE ID"`
	Platform     string
	Repository   string
	Size         string
	Tag          string
}

func newImageRow(img *store.Image, now time.Time, noTrunc bool) imageRow {
	r := imageRow{
		CreatedAt: "N/A", CreatedSince: "N/A", // reproducible builds have no honest date
		Digest:   img.Source.String(),
		ID:       img.Manifest.Config.Digest.String(),
		Platform: printable(path.Join(img.Config.OS, img.Config.Architecture, img.Config.Variant)),
		Size:     units.HumanSizeWithPrecision(float64(img.Size()), 3),
	}
	r.Repository, r.Tag = nameAndTag(img.Name)
	if !noTrunc {
		r.ID = short(img.Manifest.Config.Digest)
	}
	if t := created(img); !t.IsZero() {
		r.CreatedAt, r.CreatedSince = t.Local().Format(dockerTime), units.HumanDuration(now.Sub(t))+" ago"
	}
	return r
}

// nameAndTag splits a stored reference as docker's listing does.
func nameAndTag(name string) (repository, tag string) {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return printable(name), "<none>" // written by another tool
	}
	if ref.Tag() == "" {
		return ref.FamiliarName(), "<none>"
	}
	return ref.FamiliarName(), ref.Tag()
}

// created is when an image was made, as it says; zero where it does not.
func created(img *store.Image) time.Time {
	if t := img.Config.Created; t != nil && t.Unix() > 0 {
		return *t
	}
	return time.Time{}
}

// imageFilter is what --filter and the argument ask of images.
type imageFilter struct {
	filters
	pattern       string
	before, since time.Time
}

func newImageFilter(req imagesRequest, st *store.Store) (f imageFilter, err error) {
	f.pattern = req.pattern
	if f.filters, err = parseFilters(req.filter, "reference", "label", "before", "since", "dangling"); err != nil {
		return f, err
	}
	for _, word := range append(slices.Clone(f.filters["reference"]), f.pattern) {
		if _, err := path.Match(word, ""); err != nil {
			return f, usageError{nil, fmt.Errorf("reference %q: %w", word, err)}
		}
	}
	for _, word := range f.filters["dangling"] {
		if word != "true" && word != "false" {
			return f, usageError{nil, fmt.Errorf("--filter dangling=%s: want true or false", word)}
		}
	}
	for key, moment := range map[string]*time.Time{"before": &f.before, "since": &f.since} {
		for _, word := range f.filters[key] {
			img, err := findImage(st, word)
			if err != nil {
				return f, err
			}
			*moment = created(img)
		}
	}
	return f, nil
}

func (f imageFilter) take(img *store.Image) bool {
	switch {
	case f.pattern != "" && !matchReference(img.Name, f.pattern),
		!f.some("reference", func(word string) bool { return matchReference(img.Name, word) }),
		// An image without a name is not listed: prune removes it.
		!f.some("dangling", func(word string) bool { return word == "false" }),
		f.asks("before") && !created(img).Before(f.before),
		f.asks("since") && !created(img).After(f.since):
		return false
	}
	return f.labels(img.Config.Config.Labels)
}

// matchReference tells whether a stored name fits a pattern, as people write it:
// a repository with any tag or one, in full or without what goes without saying.
func matchReference(name, pattern string) bool {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return name == pattern
	}
	forms := []string{ref.Familiar(), ref.FamiliarName(), ref.String(), ref.Name()}
	return slices.ContainsFunc(forms, func(form string) bool {
		ok, _ := path.Match(pattern, form)
		return ok
	})
}

// findImage finds an image by its reference, or by the beginning of its id or of
// its digest.
func findImage(st *store.Store, name string) (*store.Image, error) {
	ref, err := registry.ParseReference(name)
	if err == nil {
		img, err := st.Resolve(ref.String())
		if !errors.Is(err, store.ErrNotFound) {
			return img, err
		}
	}
	imgs, _ := st.Images()
	var found *store.Image
	for _, img := range imgs {
		id := img.Manifest.Config.Digest.String()
		if !isDigestPrefix(id, name) && !isDigestPrefix(img.Descriptor.Digest.String(), name) && img.Source.String() != name {
			continue
		}
		if found != nil && found.Descriptor.Digest != img.Descriptor.Digest {
			return nil, fmt.Errorf("more than one image begins with %s", name)
		}
		found = img
	}
	if found != nil {
		return found, nil
	}
	return nil, unknownImageError{strings.TrimSpace(name)}
}
