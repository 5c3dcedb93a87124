package export

import (
	"bytes"
	"errors"
	"strconv"
)

// override is what a value of user.containers.override_stat says.
type override struct {
	uid, gid, mode uint32
	typ            byte // of the header; 0 if it does not say, or says what tar has no type for
	major, minor   uint32
}

var errOverride = errors.New("want UID:GID:MODE[:TYPE]")

// parseOverride reads UID:GID:MODE, the mode in octal, and perhaps a fourth
// field: file, dir, symlink, pipe, socket, block-MAJOR-MINOR or
// char-MAJOR-MINOR.
func parseOverride(value []byte) (override, error) {
	f := bytes.Split(value, []byte{':'})
	if len(f) != 3 && len(f) != 4 {
		return override{}, errOverride
	}
	uid, err1 := strconv.ParseUint(string(f[0]), 10, 32)
	gid, err2 := strconv.ParseUint(string(f[1]), 10, 32)
	mode, err3 := strconv.ParseUint(string(f[2]), 8, 32)
	if err1 != nil || err2 != nil || err3 != nil {
		return override{}, errOverride
	}
	o := override{uid: uint32(uid), gid: uint32(gid), mode: uint32(mode) & 0o7777}
	if len(f) == 3 {
		return o, nil
	}
	kind, device, isDevice := bytes.Cut(f[3], []byte{'-'})
	switch string(kind) {
	case "file", "dir", "symlink", "socket":
	case "pipe":
		o.typ = typeFifo
	case "block":
		o.typ = typeBlock
	case "char":
		o.typ = typeChar
	default:
		return override{}, errOverride
	}
	if isDevice != (o.typ == typeBlock || o.typ == typeChar) {
		return override{}, errOverride
	}
	if isDevice {
		major, minor, _ := bytes.Cut(device, []byte{'-'})
		ma, err1 := strconv.ParseUint(string(major), 10, 12)
		mi, err2 := strconv.ParseUint(string(minor), 10, 20)
		if err1 != nil || err2 != nil {
			return override{}, errOverride
		}
		o.major, o.minor = uint32(ma), uint32(mi)
	}
	return o, nil
}
