package guest

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMountOptions(t *testing.T) {
	for _, c := range []struct {
		name  string
		words []string
		want  options
	}{
		{"none", nil, options{}},
		{"attributes", []string{"ro", "nosuid", "nodev", "noexec"}, options{attr: unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC}}},
		{"the last word wins", []string{"ro", "rw"}, options{attr: unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}}},
		{"the last word wins the other way", []string{"rw", "ro"}, options{attr: unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}}},
		{"access times are one field", []string{"noatime", "strictatime"}, options{attr: unix.MountAttr{Attr_set: unix.MOUNT_ATTR_STRICTATIME, Attr_clr: unix.MOUNT_ATTR__ATIME}}},
		{"relatime takes the others away", []string{"noatime", "relatime"}, options{attr: unix.MountAttr{Attr_clr: unix.MOUNT_ATTR__ATIME}}},
		{"bind", []string{"bind"}, options{bind: true}},
		{"rbind, recursively read-only", []string{"rbind", "rro"}, options{bind: true, deep: true, deepAttr: unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}}},
		{"propagation", []string{"rslave"}, options{propagation: unix.MS_SLAVE, deepProp: true}},
		{"words of the file system", []string{"size=1m", "mode=755", "newinstance"}, options{data: []string{"size=1m", "mode=755", "newinstance"}}},
		{"without meaning", []string{"defaults", "silent", ""}, options{}},
		{"not done", []string{"tmpcopyup"}, options{unsupported: "tmpcopyup"}},
		{"a word like an attribute's", []string{"r", "ratime"}, options{data: []string{"r"}, deepAttr: unix.MountAttr{Attr_clr: unix.MOUNT_ATTR__ATIME}}},
	} {
		got := parseOptions(c.words)
		if got.bind != c.want.bind || got.deep != c.want.deep || got.attr != c.want.attr || got.deepAttr != c.want.deepAttr ||
			got.propagation != c.want.propagation || got.deepProp != c.want.deepProp || !slices.Equal(got.data, c.want.data) || got.unsupported != c.want.unsupported {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}
