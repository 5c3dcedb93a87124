package export

import (
	"bytes"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const overrideStat = "user.containers.override_stat"

// xattrReader reads the extended attributes of one file after the other.
type xattrReader struct {
	form  Form
	marks string // what the attributes of the overlay begin with; empty for none

	// Of the last file; the slices are good until the next one.
	list      []xattr // what belongs into an archive, sorted
	override  []byte  // overrideStat's value, nil if there is none
	unnamable bool    // an attribute is missing from list, for its name
	opaque    bool    // the overlay hides what lower layers have in this directory
	elsewhere bool    // the overlay takes the file's content from another name

	names, values []byte
}

// source is a file to read attributes of: a descriptor, or the path of a handle.
type source struct {
	fd   int
	path string
}

func opened(fd int) source { return source{fd: fd} }

// held is what an O_PATH descriptor is a handle of, which the calls for
// descriptors refuse. The path is none that anyone could change, and a link is
// not followed beyond the handle.
func held(fd int) source { return source{path: "/proc/self/fd/" + strconv.Itoa(fd)} }

func (s source) list(b []byte) (int, error) {
	if s.path != "" {
		return unix.Listxattr(s.path, b)
	}
	return unix.Flistxattr(s.fd, b)
}

func (s source) get(name string, b []byte) (int, error) {
	if s.path != "" {
		return unix.Getxattr(s.path, name, b)
	}
	return unix.Fgetxattr(s.fd, name, b)
}

// read reads all attributes of a file.
func (x *xattrReader) read(s source) error {
	x.list, x.override, x.unnamable, x.opaque, x.elsewhere = x.list[:0], nil, false, false, false
	if x.names == nil {
		x.names = make([]byte, 64<<10) // XATTR_LIST_MAX
		x.values = make([]byte, 4<<10)
	}
	n, err := s.list(x.names)
	if err == unix.ENOTSUP {
		return nil
	}
	if err != nil {
		return err
	}
	used := 0
	for name := range bytes.SplitSeq(x.names[:n], []byte{0}) {
		isOverride := x.form == OverrideStat && string(name) == overrideStat
		mark, isMark := x.mark(string(name))
		if isMark && (mark == "redirect" || mark == "metacopy") {
			x.elsewhere = true
		}
		isOpaque := isMark && mark == "opaque"
		if len(name) == 0 || hidden(string(name)) && !isOverride && !isOpaque {
			continue
		}
		value, err := x.value(s, string(name), used)
		if err == unix.ENODATA || err == unix.ENOTSUP { // removed meanwhile, or no more than a name
			continue
		}
		if err != nil {
			return err
		}
		if isOpaque {
			x.opaque = string(value) == "y" // "x" is of an overlay on an overlay
			continue
		}
		used += len(value)
		if used += len(name); used > maxXattrs {
			return &LimitError{"bytes of extended attributes", int64(used), maxXattrs}
		}
		switch {
		case isOverride:
			x.override = value
		case bytes.IndexByte(name, '=') >= 0: // it would end the record's keyword
			x.unnamable = true
		default:
			x.list = append(x.list, xattr{name, value})
		}
	}
	if len(x.list) > 1 {
		sortXattrs(x.list)
	}
	return nil
}

// mark is the name of an attribute without what those of the overlay begin with.
func (x *xattrReader) mark(name string) (mark string, ok bool) {
	if x.marks == "" {
		return "", false
	}
	return strings.CutPrefix(name, x.marks)
}

// value reads one attribute to x.values behind those that are used.
func (x *xattrReader) value(s source, name string, used int) ([]byte, error) {
	for {
		n, err := s.get(name, x.values[used:])
		if err == nil && used+n < len(x.values) {
			return x.values[used : used+n : used+n], nil
		}
		if err != nil && err != unix.ERANGE {
			return nil, err
		}
		if len(x.values) > 2*maxXattrs {
			return nil, err
		}
		// Values that were returned keep the old array.
		x.values = make([]byte, 2*len(x.values))
	}
}

// hidden tells which attributes are not the file's own but the host's: orders to
// overlay file systems, labels and seals of its policy. An archive with these
// would be refused, or harm, elsewhere.
func hidden(name string) bool {
	return strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.") ||
		strings.HasPrefix(name, "user.fuseoverlayfs.") ||
		name == overrideStat || name == "security.selinux" || name == "security.evm"
}
