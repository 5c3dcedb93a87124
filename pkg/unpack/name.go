package unpack

import "bytes"

// A whiteout is an entry whose name, not its content, says that something of
// the layers below is gone (image-spec layer.md, Whiteouts).
const (
	whiteoutPrefix = ".wh."
	opaqueName     = ".wh..wh..opq" // everything in this directory
	metaPrefix     = ".wh..wh."     // otherwise: aufs's own bookkeeping, never shown
)

// clean appends to buf the path that name has inside the rootfs, and returns it:
// without "", "." and leading slashes, ".." taken back by letters as
// filepath.Clean does in "/"+name. The root itself is empty.
func clean(buf, name []byte) []byte {
	buf = buf[:0]
	for len(name) > 0 {
		var comp []byte
		comp, name = cut(name)
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

// cut takes the first component off path.
func cut(path []byte) (comp, rest []byte) {
	if i := bytes.IndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return path, nil
}

// split divides a clean path into the directory and the name in it.
func split(path []byte) (dir, base []byte) {
	if i := bytes.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return nil, path
}

// depth is the number of directories above the name in a clean path.
func depth(path []byte) int { return bytes.Count(path, []byte("/")) }

type role int

const (
	plain    role = iota
	whiteout      // of base without the prefix
	opaque        // of dir
	hidden        // nothing is made of it
)

// classify says what an entry called base in dir is for. Below a whiteout
// nothing can be: such entries are hidden, like aufs's .wh..wh.plnk/ and what it
// holds.
func classify(dir, base []byte) (role, error) {
	for rest := dir; len(rest) > 0; {
		var comp []byte
		if comp, rest = cut(rest); bytes.HasPrefix(comp, []byte(whiteoutPrefix)) {
			return hidden, nil
		}
	}
	if !bytes.HasPrefix(base, []byte(whiteoutPrefix)) {
		return plain, nil
	}
	switch victim := string(base[len(whiteoutPrefix):]); {
	case string(base) == opaqueName:
		return opaque, nil
	case victim == "", victim == ".", victim == "..":
		return hidden, ErrWhiteout
	case bytes.HasPrefix(base, []byte(metaPrefix)):
		return hidden, nil
	}
	return whiteout, nil
}
