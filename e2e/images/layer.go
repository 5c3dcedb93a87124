package images

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The names by which a layer removes (image-spec layer.md, Whiteouts).
const (
	whiteoutPrefix = ".wh."
	opaqueName     = ".wh..wh..opq"
)

// layerOptions are the habits of different builders.
type layerOptions struct {
	// nanoseconds keeps mtimes exactly, in PAX records; docker and BuildKit cut
	// them to seconds.
	nanoseconds bool
}

// writeLayer writes the changes of the tree at root as a layer's tar.
func writeLayer(w io.Writer, root string, changes []change, o layerOptions) error {
	t := tar.NewWriter(w)
	links := map[[2]uint64]string{} // device and inode -> the name that has the content
	for _, c := range changes {
		var err error
		switch c.kind {
		case remove:
			dir, base := path.Split(c.path)
			err = mark(t, dir+whiteoutPrefix+base)
		case opaque:
			err = mark(t, c.path+"/"+opaqueName)
		case put:
			err = putFile(t, root, c.path, links, o)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.path, err)
		}
	}
	return t.Close()
}

func mark(t *tar.Writer, name string) error {
	return t.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o600, Format: tar.FormatPAX, ModTime: time.Unix(0, 0)})
}

func putFile(t *tar.Writer, root, name string, links map[[2]uint64]string, o layerOptions) error {
	full := filepath.Join(root, name)
	var st unix.Stat_t
	if err := unix.Lstat(full, &st); err != nil {
		return err
	}
	mtime := time.Unix(st.Mtim.Unix())
	if !o.nanoseconds {
		mtime = mtime.Truncate(time.Second)
	}
	// Names of users are left out: the host's would be the wrong ones.
	h := &tar.Header{
		Name: name, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
		ModTime: mtime, Format: tar.FormatPAX,
	}
	isLink := false
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, st.Size
		if st.Nlink > 1 {
			id := [2]uint64{st.Dev, st.Ino}
			if h.Linkname, isLink = links[id]; isLink {
				h.Typeflag, h.Size = tar.TypeLink, 0
			} else {
				links[id] = name
			}
		}
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
	case unix.S_IFLNK:
		target, err := os.Readlink(full)
		if err != nil {
			return err
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, target
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	default:
		return fmt.Errorf("mode %o has no place in a tar", st.Mode)
	}
	if !isLink {
		var err error
		if h.PAXRecords, err = xattrRecords(full); err != nil {
			return err
		}
	}
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	if h.Size == 0 {
		return nil
	}
	f, err := os.Open(full)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(t, f)
	return err
}

// xattrRecords returns the extended attributes as the PAX records that
// image-spec layer.md names.
func xattrRecords(path string) (map[string]string, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if errors.Is(err, unix.ENOTSUP) || n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	records := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return nil, fmt.Errorf("xattr %s: %w", name, err)
		}
		records["SCHILY.xattr."+name] = string(value[:n])
	}
	return records, nil
}
