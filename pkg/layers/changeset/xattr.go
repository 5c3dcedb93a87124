package changeset

import "strings"

// Refused tells why an attribute of an image is not for the file system, or "".
// overlayfs and its rootless cousins would take orders from these: an image could
// hide files, or lend them another owner.
func Refused(name []byte) string {
	switch s := string(name); {
	case strings.HasPrefix(s, "trusted.overlay."), strings.HasPrefix(s, "user.overlay."),
		strings.HasPrefix(s, "user.fuseoverlayfs."), s == "user.containers.override_stat":
		return "it would steer an overlay file system"
	case s == "security.selinux":
		return "labels are the host's business"
	}
	return ""
}
