package explain

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Descriptor is an open file that lies on none of the process's own mounts: it was
// opened outside and handed in.
type Descriptor struct {
	FD     int    `json:"fd"`
	Path   string `json:"path"`   // outside
	Access string `json:"access"` // r, w, rw, or path for a mere handle
	// Directory says that the file is one: from there all of that file system can be
	// reached.
	Directory bool `json:"directory,omitempty"`
}

// maxDescriptors bounds how many descriptors are looked at.
const maxDescriptors = 4096

var errManyDescriptors = errors.New("only the first " + strconv.Itoa(maxDescriptors) + " were looked at")

// descriptors finds the descriptors of files outside, by the mount that they are
// on. Pipes, sockets and memory files are on no mount that anybody could walk.
func (p *process) descriptors(ctx context.Context) error {
	if p.ids == nil { // with the host's mounts there is no outside
		return nil
	}
	f, err := p.fs.Open(p.dir + "/fd")
	if err != nil {
		return gone(err)
	}
	defer f.Close()
	dir, ok := f.(fs.ReadDirFile)
	if !ok {
		return fs.ErrInvalid
	}
	entries, err := dir.ReadDir(maxDescriptors)
	if err != nil && len(entries) > 0 {
		return gone(err)
	}
	if len(entries) == maxDescriptors {
		defer func() { p.miss("more descriptors", errManyDescriptors) }()
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		target, err := p.readlink("fd/" + e.Name())
		if errors.Is(err, ErrGone) { // closed meanwhile
			continue
		}
		if err != nil {
			return err
		}
		if !strings.HasPrefix(target, "/") || strings.HasPrefix(target, "/memfd:") {
			continue
		}
		flags, mount, err := p.fdinfo(e.Name())
		if errors.Is(err, ErrGone) {
			continue
		}
		if err != nil {
			return err
		}
		if !p.ids[mount] {
			p.r.HostFiles = append(p.r.HostFiles, Descriptor{
				FD: n, Path: target, Access: access(flags), Directory: flags&unix.O_DIRECTORY != 0,
			})
		}
	}
	slices.SortFunc(p.r.HostFiles, func(a, b Descriptor) int { return a.FD - b.FD })
	return nil
}

// fdinfo reads how a descriptor was opened, and on which mount.
func (p *process) fdinfo(name string) (flags, mount int, err error) {
	b, err := p.read("fdinfo/"+name, small)
	if err != nil {
		return 0, 0, err
	}
	for line := range bytes.Lines(b) {
		key, value, _ := strings.Cut(string(line), ":")
		value = strings.TrimSpace(value)
		switch key {
		case "flags":
			n, parseErr := strconv.ParseInt(value, 8, 64)
			flags, err = int(n), errors.Join(err, parseErr)
		case "mnt_id":
			n, parseErr := strconv.Atoi(value)
			mount, err = n, errors.Join(err, parseErr)
		}
	}
	return flags, mount, err
}

func access(flags int) string {
	switch {
	case flags&unix.O_PATH != 0:
		return "path"
	case flags&unix.O_ACCMODE == unix.O_WRONLY:
		return "w"
	case flags&unix.O_ACCMODE == unix.O_RDWR:
		return "rw"
	}
	return "r"
}
