package guest

import (
	"slices"

	"golang.org/x/sys/unix"
)

// options are the mount options of config.json, sorted by who takes them.
type options struct {
	bind, deep  bool // bind or rbind; deep for rbind
	attr        unix.MountAttr
	deepAttr    unix.MountAttr // the recursive attributes: rro, rnosuid, ...
	propagation uint64
	deepProp    bool
	data        []string // words of the file system
	unsupported string
}

// attrOf are the options that are attributes of a mount.
var attrOf = map[string]struct {
	set, clear uint64
}{
	"ro": {unix.MOUNT_ATTR_RDONLY, 0}, "rw": {0, unix.MOUNT_ATTR_RDONLY},
	"nosuid": {unix.MOUNT_ATTR_NOSUID, 0}, "suid": {0, unix.MOUNT_ATTR_NOSUID},
	"nodev": {unix.MOUNT_ATTR_NODEV, 0}, "dev": {0, unix.MOUNT_ATTR_NODEV},
	"noexec": {unix.MOUNT_ATTR_NOEXEC, 0}, "exec": {0, unix.MOUNT_ATTR_NOEXEC},
	"nodiratime": {unix.MOUNT_ATTR_NODIRATIME, 0}, "diratime": {0, unix.MOUNT_ATTR_NODIRATIME},
	"nosymfollow": {unix.MOUNT_ATTR_NOSYMFOLLOW, 0}, "symfollow": {0, unix.MOUNT_ATTR_NOSYMFOLLOW},
	// The three ways to keep access times are one field: it is cleared whole
	// and set anew.
	"relatime": {unix.MOUNT_ATTR_RELATIME, unix.MOUNT_ATTR__ATIME}, "norelatime": {unix.MOUNT_ATTR_STRICTATIME, unix.MOUNT_ATTR__ATIME},
	"noatime": {unix.MOUNT_ATTR_NOATIME, unix.MOUNT_ATTR__ATIME}, "atime": {unix.MOUNT_ATTR_RELATIME, unix.MOUNT_ATTR__ATIME},
	"strictatime": {unix.MOUNT_ATTR_STRICTATIME, unix.MOUNT_ATTR__ATIME}, "nostrictatime": {unix.MOUNT_ATTR_RELATIME, unix.MOUNT_ATTR__ATIME},
}

var propagationOf = map[string]struct {
	kind uint64
	deep bool
}{
	"private": {unix.MS_PRIVATE, false}, "rprivate": {unix.MS_PRIVATE, true},
	"slave": {unix.MS_SLAVE, false}, "rslave": {unix.MS_SLAVE, true},
	"shared": {unix.MS_SHARED, false}, "rshared": {unix.MS_SHARED, true},
	"unbindable": {unix.MS_UNBINDABLE, false}, "runbindable": {unix.MS_UNBINDABLE, true},
}

// ignored options have no meaning left: mandatory locks are gone from Linux,
// and the kernel's log of mounts is not ours to quiet.
var ignored = []string{"defaults", "mand", "nomand", "silent", "loud", "iversion", "noiversion", "acl", "noacl", "async", "nolazytime"}

// refused options would need work that is not done; to drop one silently would
// give another mount than the one asked for.
var refused = []string{"remount", "tmpcopyup"}

func parseOptions(list []string) options {
	var o options
	for _, word := range list {
		if a, ok := attrOf[word]; ok {
			merge(&o.attr, a.set, a.clear)
			continue
		}
		if p, ok := propagationOf[word]; ok {
			o.propagation, o.deepProp = p.kind, p.deep
			continue
		}
		if a, ok := attrOf[word[min(1, len(word)):]]; ok && word[0] == 'r' {
			merge(&o.deepAttr, a.set, a.clear)
			continue
		}
		switch {
		case word == "bind":
			o.bind = true
		case word == "rbind":
			o.bind, o.deep = true, true
		case word == "idmap", word == "ridmap": // by whom the guest has the mount from
		case slices.Contains(ignored, word), word == "":
		case slices.Contains(refused, word):
			o.unsupported = word
		default:
			o.data = append(o.data, word)
		}
	}
	return o
}

// merge lets a later word win over an earlier one.
func merge(a *unix.MountAttr, set, clear uint64) {
	a.Attr_set = a.Attr_set&^clear | set
	if clear == unix.MOUNT_ATTR__ATIME {
		a.Attr_clr |= clear
		return
	}
	a.Attr_clr = a.Attr_clr&^set | clear
}
