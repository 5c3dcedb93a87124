package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"peel/pkg/image"
)

// What using an image costs, mounted as it was prepared and unpacked into files, in
// turns. The two take the same bytes from the same file system.
//
//	cold     all files are read, in the order of their names, with none in memory
//	first    all files are read; of the mount, the tars are in memory already
//	again    all files are read once more
//	execs    200 programs, one after the other, after the first
//
// Of each, the median of the rounds' ratios is printed: mounted to unpacked. What is
// in memory is dropped file by file, so that others on the machine keep theirs.
type using struct {
	files   string // the image, unpacked
	mount   string // a directory to mount it on
	backing []string
	cache   *image.Cache
	id      image.ID
	program string
	buf     []byte
}

const execs = 200

// figure is what one step took of the two.
type figure struct{ mounted, unpacked span }

type span struct{ wall, cpu float64 }

func use(path, dir, program string, rounds int) (err error) {
	b, work, err := begin(path, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	b.dir = work
	if b.cache, err = image.Open(work + "/store"); err != nil {
		return err
	}
	u := &using{files: work + "/rootfs", mount: work + "/mount", cache: b.cache, id: image.IDOf(b.img), program: program, buf: make([]byte, 256<<10)}
	if err := errors.Join(b.files(), b.index(), os.Mkdir(u.mount, 0o700)); err != nil {
		return err
	}
	p, err := b.cache.Find(u.id)
	if err != nil {
		return err
	}
	u.backing = append([]string{p.Index}, p.Devices...)
	if err := p.Close(); err != nil {
		return err
	}
	unix.Sync() // what is not on disk cannot be dropped

	steps := []string{"cold", "first", "again", "execs"}
	all := map[string][]figure{}
	for r := range rounds + 1 { // the first is for warming up
		got := map[string]figure{}
		sides := []func(map[string]figure) error{u.mounted, u.unpacked}
		if r%2 == 1 {
			slices.Reverse(sides)
		}
		for _, side := range sides {
			if err := side(got); err != nil {
				return err
			}
		}
		if r > 0 {
			for step, f := range got {
				all[step] = append(all[step], f)
			}
		}
	}
	fmt.Printf("%-6s %12s %12s %7s %12s %12s %7s\n", "", "wall mounted", "in files", "ratio", "CPU mounted", "in files", "ratio")
	for _, s := range steps {
		column := func(of func(figure) float64) float64 {
			var v []float64
			for _, f := range all[s] {
				v = append(v, of(f))
			}
			slices.Sort(v)
			return v[len(v)/2]
		}
		fmt.Printf("%-6s %12.4f %12.4f %7.2f %12.4f %12.4f %7.2f\n", s,
			column(func(f figure) float64 { return f.mounted.wall }), column(func(f figure) float64 { return f.unpacked.wall }),
			column(func(f figure) float64 { return f.mounted.wall / f.unpacked.wall }),
			column(func(f figure) float64 { return f.mounted.cpu }), column(func(f figure) float64 { return f.unpacked.cpu }),
			column(func(f figure) float64 { return f.mounted.cpu / f.unpacked.cpu }))
	}
	return nil
}

// mounted measures the mount: a new one for each time that nothing may be in memory.
func (u *using) mounted(got map[string]figure) error {
	note := func(step string, s span) {
		f := got[step]
		f.mounted = s
		got[step] = f
	}
	for _, path := range u.backing {
		if err := drop(path); err != nil {
			return err
		}
	}
	err := u.whileMounted(func() error {
		s, err := timed(func() error { return u.readAll(u.mount) })
		note("cold", s)
		return err
	})
	if err != nil {
		return err
	}
	return u.whileMounted(func() error {
		for _, step := range []string{"first", "again"} {
			s, err := timed(func() error { return u.readAll(u.mount) })
			note(step, s)
			if err != nil {
				return err
			}
		}
		s, err := u.execute(u.mount)
		note("execs", s)
		return err
	})
}

func (u *using) whileMounted(do func() error) error {
	p, err := u.cache.Find(u.id)
	if err != nil {
		return err
	}
	if err := errors.Join(p.Mount(u.mount), p.Close()); err != nil {
		return err
	}
	return errors.Join(do(), unix.Unmount(u.mount, unix.MNT_DETACH))
}

func (u *using) unpacked(got map[string]figure) error {
	note := func(step string, s span) {
		f := got[step]
		f.unpacked = s
		got[step] = f
	}
	if err := filepath.WalkDir(u.files, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			err = drop(path)
		}
		return err
	}); err != nil {
		return err
	}
	for _, step := range []string{"cold", "first", "again"} {
		s, err := timed(func() error { return u.readAll(u.files) })
		note(step, s)
		if err != nil {
			return err
		}
	}
	s, err := u.execute(u.files)
	note("execs", s)
	return err
}

// drop has the kernel forget a file's pages.
func drop(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return os.NewSyscallError("fadvise", unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
}

func (u *using) readAll(root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		for {
			if _, err := f.Read(u.buf); err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
		}
	})
}

// execute runs the program, once more than it counts.
func (u *using) execute(root string) (span, error) {
	once := func() error {
		cmd := exec.Command(u.program)
		cmd.Path, cmd.Err = u.program, nil // to be looked up in the image
		cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Chroot: root}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s of the image: %w: %s", u.program, err, out)
		}
		return nil
	}
	if err := once(); err != nil {
		return span{}, err
	}
	return timed(func() error {
		for range execs {
			if err := once(); err != nil {
				return err
			}
		}
		return nil
	})
}

// timed measures do, with the programs that it waits for.
func timed(do func() error) (span, error) {
	start, before := time.Now(), cpu()+children()
	err := do()
	return span{time.Since(start).Seconds(), cpu() + children() - before}, err
}

func children() float64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}
