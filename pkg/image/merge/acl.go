package merge

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"peel/pkg/erofs"
)

// An access control list is checked here because in an image nobody else does: the
// kernel would find a malformed one at each access to the file, and fail it.

const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"

	aclVersion   = 2 // posix_acl_xattr_header
	aclEntrySize = 8 // tag, permissions, id: posix_acl_xattr_entry

	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20

	aclNoID = 1<<32 - 1
)

// settableACL is settable for access control lists. As unpacking sets a file's mode
// after its attributes, and chmod(2) changes the list too, the mode wins.
func settableACL(mode uint32, x erofs.Xattr) (erofs.Xattr, error) {
	none := erofs.Xattr{}
	typ := mode & typeMask
	if typ == typeSymlink {
		return none, unix.ENOTSUP
	}
	v := []byte(x.Value)
	if len(v) < 4 || (len(v)-4)%aclEntrySize != 0 {
		return none, unix.EINVAL
	}
	if binary.LittleEndian.Uint32(v) != aclVersion {
		return none, unix.ENOTSUP
	}
	list := v[4:]
	if len(list) == 0 {
		return none, nil // removes the one that is there
	}
	extended, ok := checkACL(list)
	if !ok {
		return none, unix.EINVAL
	}
	if x.Name == aclDefault {
		if typ != typeDir {
			return none, unix.EACCES
		}
		return erofs.Xattr{Name: x.Name, Value: string(v)}, nil
	}
	if !extended {
		return none, nil // says no more than the mode
	}
	for e := list; len(e) > 0; e = e[aclEntrySize:] {
		perm := e[2:4]
		switch binary.LittleEndian.Uint16(e) {
		case aclUserObj:
			binary.LittleEndian.PutUint16(perm, uint16(mode>>6&7))
		case aclMask:
			binary.LittleEndian.PutUint16(perm, uint16(mode>>3&7))
		case aclOther:
			binary.LittleEndian.PutUint16(perm, uint16(mode&7))
		}
	}
	return erofs.Xattr{Name: x.Name, Value: string(v)}, nil
}

// checkACL tells whether a list has the entries that it must have in their order
// (acl(5), Valid ACLs), and more than the three that a mode has. It wipes the ids
// of entries that have none.
func checkACL(list []byte) (extended, ok bool) {
	state, named, masked := aclUserObj, false, false
	for ; len(list) > 0; list = list[aclEntrySize:] {
		tag := int(binary.LittleEndian.Uint16(list))
		id := list[4:8]
		if binary.LittleEndian.Uint16(list[2:]) > 7 {
			return false, false
		}
		switch {
		case tag == aclUserObj && state == aclUserObj:
			state = aclUser
		case tag == aclUser && state == aclUser, tag == aclGroup && state == aclGroup:
			if named = true; binary.LittleEndian.Uint32(id) == aclNoID {
				return false, false
			}
			continue
		case tag == aclGroupObj && state == aclUser:
			state = aclGroup
		case tag == aclMask && state == aclGroup:
			state, masked = aclOther, true
		case tag == aclOther && (state == aclOther || state == aclGroup && !named):
			state = 0
		default:
			return false, false
		}
		binary.LittleEndian.PutUint32(id, aclNoID)
	}
	return named || masked, state == 0
}
