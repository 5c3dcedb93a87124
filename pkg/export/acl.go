package export

import (
	"encoding/binary"
	"strconv"
)

// Access control lists are extended attributes like others to Linux, and to GNU tar,
// docker and podman. libarchive and star take them as text only, from records of
// their own, which the others skip.
var aclRecords = map[string]string{
	"system.posix_acl_access":  "SCHILY.acl.access",
	"system.posix_acl_default": "SCHILY.acl.default",
}

// appendACL appends a list in the form of getxattr(2) (posix_acl_xattr.h) as text, as
// in "user::rw-,user:1000:r--,group::r--,mask::r--,other::r--". It appends nothing for
// what it does not understand.
func appendACL(text, list []byte) []byte {
	const (
		version   = 2
		entrySize = 8 // tag, permissions, id
		noID      = 1<<32 - 1
	)
	if len(list) < 4 || binary.LittleEndian.Uint32(list) != version || len(list[4:])%entrySize != 0 {
		return text
	}
	start := len(text)
	for e := list[4:]; len(e) > 0; e = e[entrySize:] {
		tag, perm, id := binary.LittleEndian.Uint16(e), binary.LittleEndian.Uint16(e[2:]), binary.LittleEndian.Uint32(e[4:])
		who, ok := aclTags[tag]
		if !ok || perm > 7 || who.named != (id != noID) {
			return text[:start]
		}
		if len(text) > start {
			text = append(text, ',')
		}
		text = append(append(text, who.name...), ':')
		if who.named {
			text = strconv.AppendUint(text, uint64(id), 10)
		}
		text = append(text, ':')
		for i, c := range []byte("rwx") {
			if perm&(4>>i) == 0 {
				c = '-'
			}
			text = append(text, c)
		}
	}
	return text
}

var aclTags = map[uint16]struct {
	name  string
	named bool // it is for the user or group of an id
}{
	0x01: {"user", false},
	0x02: {"user", true},
	0x04: {"group", false},
	0x08: {"group", true},
	0x10: {"mask", false},
	0x20: {"other", false},
}
