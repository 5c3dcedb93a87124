// Package unpack turns the layers of an image into a directory.
//
// Each layer becomes a tree of its own, all at the same time and while their blobs
// still arrive (stage); then the trees are laid one over the other by renaming
// (merger), and the result is renamed to where it was asked for (staging):
//
//	blob 0 ─ tar ─ stage ─ tree ──────────────┐
//	blob 1 ─ tar ─ stage ─ .peel-XXXX/1 ── merge ─ … ── rename ─ DIR
//	blob 2 ─ tar ─ stage ─ .peel-XXXX/2 ─────────── merge ┘
//
// Nothing is at DIR before every layer's digests have been found right.
//
// An image is a stranger's. Its names are resolved under descriptors of the
// staging directory and its links are never followed out of it; what it can make
// us do is bounded by Limits; nothing of it is executed.
//
// Writing is as cheap as the kernel lets it be: see docs/unpack.md. One thing is
// for the caller to decide: under a umask of 0 files get their mode when they are
// created, under any other one those with bits in it cost a chmod(2) each.
package unpack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"peel/internal/beneath"
	"peel/pkg/layers/changeset"
	"peel/pkg/layers/tar"
	"peel/pkg/progress"
	"peel/pkg/store"
)

// Form is what DIR becomes.
type Form int

const (
	// Bundle: DIR is an OCI runtime bundle, DIR/rootfs and what Options.Finish adds.
	// DIR itself is 0700, so that nobody else reaches the set-id files in it.
	Bundle Form = iota
	// Rootfs: DIR is the image's root directory itself.
	Rootfs
)

// Options says how to unpack. The zero value makes a bundle.
type Options struct {
	Form Form
	// Force replaces a DIR that is not empty, in one step.
	Force bool
	// Strict makes an error of what is otherwise a warning: owners, devices and
	// extended attributes that the caller or the file system cannot have.
	Strict bool
	// DropSetID leaves set-id bits out of the files of a Rootfs: where the image's
	// root is some user, they would lend his rights to whoever gets there. It is
	// implied where the caller owns all files. Nobody else gets into a Bundle.
	DropSetID bool
	// Sync has all written to disk before DIR appears (syncfs(2), once). Without
	// it, a power failure soon after may leave DIR with empty files.
	Sync bool
	// Jobs is how many layers are unpacked at a time. 0 is one more than there are
	// processors, as some wait for their blobs.
	Jobs   int
	Limits Limits
	// Finish completes a bundle before it appears: it writes config.json into
	// bundle, for the rootfs that lies there ready. It keeps neither file.
	Finish   func(bundle, rootfs *os.File) error
	Progress progress.Func
}

// Stats tells what has been unpacked.
type Stats struct {
	Layers  int
	Entries int64 // of all layers' tars
	Bytes   int64 // of all files in them
}

// Image unpacks img to dir. Its parent directory exists, else it is a *ParentError;
// dir itself may, if it is an empty directory: else the error is ErrNotEmpty, unless
// o.Force.
//
// When the error is not nil, dir is as it was, and nothing is left beside it. It
// is a *LayerError where one layer is to blame; in it may be an *EntryError, a
// *LimitError, a *layers.MismatchError or a *tar.Error.
func Image(ctx context.Context, src Blobs, img *store.Image, dir string, o Options) (Stats, error) {
	st, err := newStaging(dir, o.Force)
	if err != nil {
		return Stats{}, err
	}
	defer func() {
		// What cannot be removed is not worth failing for, once DIR is there: the
		// next Image beside it will try again.
		if rmErr := st.remove(); rmErr != nil {
			o.Progress.Send(progress.Event{Kind: progress.Warning, Message: fmt.Sprintf("%s is left over: %v", st.name, rmErr)})
		}
	}()
	if err := st.room(img); err != nil {
		return Stats{}, err
	}

	me := whoAmI()
	j := &shared{
		caller:    &me,
		limits:    o.Limits.WithDefaults(),
		losses:    &changeset.Losses{Strict: o.Strict},
		dropSetID: o.Form == Rootfs && (o.DropSetID || !me.owners),
	}
	u := &unpacker{shared: j, staging: st, src: src, img: img, o: o}
	if err := u.run(ctx); err != nil {
		return Stats{}, err
	}
	j.losses.Report(o.Progress)
	return Stats{Layers: len(img.Manifest.Layers), Entries: j.entries.Load(), Bytes: j.bytes.Load()}, nil
}

// unpacker is one call of Image.
type unpacker struct {
	*shared
	staging *staging
	src     Blobs
	img     *store.Image
	o       Options
	merger  merger
}

func (u *unpacker) run(ctx context.Context) error {
	if err := u.makeRoot(); err != nil {
		return err
	}
	defer u.merger.close()
	jobs := u.o.Jobs
	if jobs <= 0 {
		jobs = runtime.GOMAXPROCS(0) + 1
	}
	jobs = min(jobs, len(u.img.Manifest.Layers))
	u.maxOpen = max(maxOpen/max(jobs, 1), 8)
	u.pool = newPool(min(runtime.GOMAXPROCS(0), maxWriters), jobs, u.caller)
	err := u.assemble(ctx, changeset.NewTurns(jobs))
	u.pool.close()
	if err != nil {
		return err
	}
	return u.publish()
}

// assemble stages all layers, and merges each as soon as those below are.
func (u *unpacker) assemble(ctx context.Context, turns *changeset.Turns) error {
	n := len(u.img.Manifest.Layers)
	staged := make([]chan *stage, n)
	g, ctx := errgroup.WithContext(ctx)
	for i := range n {
		staged[i] = make(chan *stage, 1)
		g.Go(func() error {
			s, err := u.layer(ctx, turns, i)
			if err != nil {
				return u.layerError(i, err)
			}
			staged[i] <- s
			return nil
		})
	}
	g.Go(func() error {
		for i := range n {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case s := <-staged[i]:
				err := u.merge(i, s)
				s.tree.close()
				if err != nil {
					return u.layerError(i, err)
				}
			}
		}
		return nil
	})
	err := g.Wait()
	for _, c := range staged { // those that nobody came to merge
		select {
		case s := <-c:
			s.tree.close()
		default:
		}
	}
	return err
}

// maxWriters is how many files are written at a time: more contend for the
// locks of the file system and win nothing.
const maxWriters = 4

func (u *unpacker) layerError(i int, err error) error {
	if e := (*LayerError)(nil); errors.As(err, &e) {
		return err
	}
	return &LayerError{Index: i, Digest: u.img.Manifest.Layers[i].Digest, DiffID: u.img.Config.RootFS.DiffIDs[i], Err: err}
}

// makeRoot makes the directory in which the rootfs grows, and the trash.
func (u *unpacker) makeRoot() error {
	where := "tree"
	root, err := u.staging.mkdir(where)
	if err == nil && u.o.Form == Bundle {
		unix.Close(root)
		where = "tree/rootfs"
		root, err = u.staging.mkdir(where)
	}
	if err != nil {
		return err
	}
	u.merger = merger{
		caller: u.caller,
		root:   beneath.New(os.NewFile(uintptr(root), where)),
		quiet:  &shared{caller: u.caller, losses: &changeset.Losses{}},
	}
	if u.merger.trash, err = u.staging.mkdir("trash"); err != nil {
		u.merger.root.Close()
		return err
	}
	if len(u.img.Manifest.Layers) > 0 {
		return nil // the bottom layer has more to say about the root
	}
	top, err := u.merger.openResult("")
	if err == nil {
		a := u.implicitAttrs([2]unix.Timespec{})
		err = u.settleDir(int(top.Fd()), &a, "")
		top.Close()
	}
	if err != nil {
		u.merger.close()
	}
	return err
}

// layer makes the tree of layer i: the bottom one where the result is to be, the
// others beside it. It returns only after the layer's digests are found right.
func (u *unpacker) layer(ctx context.Context, turns *changeset.Turns, i int) (*stage, error) {
	d := u.img.Manifest.Layers[i]
	// Opening reads the first bytes: a layer takes its turn when they are there.
	r, err := changeset.OpenLayer(ctx, u.src, d, u.img.Config.RootFS.DiffIDs[i], u.o.Progress)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if err := turns.Take(ctx, d.Size); err != nil {
		return nil, err
	}
	defer turns.Give()

	fd, err := u.treeOf(i)
	if err != nil {
		return nil, err
	}
	s := newStage(u.shared, fd, d.Size)
	t := tar.NewReader(r, u.limits.Tar)
	defer t.Close()
	err = s.run(ctx, t)
	if err == nil {
		err = r.Finish(u.img.Config.RootFS.DiffIDs[i])
	}
	if err != nil {
		s.tree.close()
		return nil, err
	}
	u.o.Progress.Send(progress.Event{Kind: progress.Unpacked, Digest: d.Digest, Total: d.Size, Current: d.Size})
	return s, nil
}

// treeOf opens the directory for layer i: the bottom one grows in the result's.
func (u *unpacker) treeOf(i int) (int, error) {
	if i > 0 {
		return u.staging.mkdir(strconv.Itoa(i))
	}
	return unix.Openat(int(u.merger.root.File().Fd()), ".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// merge lays layer i over the result. The bottom layer is the result.
func (u *unpacker) merge(i int, s *stage) error {
	if i > 0 {
		return u.merger.add(s)
	}
	for _, l := range s.links {
		return entryError(l.name, "link", ErrNoTarget)
	}
	return nil
}
