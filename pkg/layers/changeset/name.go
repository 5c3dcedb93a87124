package changeset

import "bytes"

// A whiteout is an entry whose name, not its content, says that something of
// the layers below is gone (image-spec layer.md, Whiteouts).
const (
	WhiteoutPrefix = ".wh."
	OpaqueName     = ".wh..wh..opq" // everything in this directory
	metaPrefix     = ".wh..wh."     // otherwise: aufs's own bookkeeping, never shown
)

// Clean appends to buf the path that name has inside the rootfs, and returns it:
// without "", "." and leading slashes, ".." taken back by letters as
// filepath.Clean does in "/"+name. The root itself is empty.
func Clean(buf, name []byte) []byte {
	buf = buf[:0]
	for len(name) > 0 {
		var comp []byte
		comp, name = Cut(name)
		switch {
		case len(comp) == 0 || string(comp) == ".":
		case string(comp) == "..":
			buf = buf[:max(0, bytes.LastIndexByte(buf, '/'))]
		default:
			if len(buf) > 0 {
				buf = append(buf, '/')
			}
			buf = append(buf, comp...)
		}
	}
	return buf
}

// Cut takes the first component off path.
func Cut(path []byte) (comp, rest []byte) {
	if i := bytes.IndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return path, nil
}

// Split divides a clean path into the directory and the name in it.
func Split(path []byte) (dir, base []byte) {
	if i := bytes.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return nil, path
}

// Role is what an entry is for.
type Role int

const (
	Plain    Role = iota // a file of any type
	Whiteout             // of base without the prefix
	Opaque               // of all in dir
	Hidden               // nothing is made of it
)

// Classify says what an entry called base in dir is for. Below a whiteout
// nothing can be: such entries are hidden, like aufs's .wh..wh.plnk/ and what it
// holds.
func Classify(dir, base []byte) (Role, error) {
	for rest := dir; len(rest) > 0; {
		var comp []byte
		if comp, rest = Cut(rest); bytes.HasPrefix(comp, []byte(WhiteoutPrefix)) {
			return Hidden, nil
		}
	}
	if !bytes.HasPrefix(base, []byte(WhiteoutPrefix)) {
		return Plain, nil
	}
	switch victim := string(base[len(WhiteoutPrefix):]); {
	case string(base) == OpaqueName:
		return Opaque, nil
	case victim == "", victim == ".", victim == "..":
		return Hidden, ErrWhiteout
	case bytes.HasPrefix(base, []byte(metaPrefix)):
		return Hidden, nil
	}
	return Whiteout, nil
}

// ImplicitMode is that of directories which no entry names.
const ImplicitMode = 0o755

// MaxLinks is as many links as the kernel follows for one name (path_resolution(7)).
const MaxLinks = 40
