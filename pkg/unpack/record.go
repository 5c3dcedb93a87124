package unpack

import (
	"strconv"

	"golang.org/x/sys/unix"

	"peel/pkg/layers/changeset"
)

// overrideStat is the attribute in which a file or directory says what it stands
// for, where it could not be that. podman's storage has the form, and
// fuse-overlayfs shows files as it says if the root directory has one. Only
// files and directories can have it, so links have no record, and FIFOs and
// devices are files where they need one.
const overrideStat = "user.containers.override_stat"

// stands tells whether a file of these attributes is another one than the image's,
// whoever owns it.
func (a *attrs) stands() bool {
	return a.real != a.mode || a.typ != unix.S_IFREG && a.typ != unix.S_IFDIR
}

// override is the value of overrideStat: UID:GID:MODE:TYPE.
func (a *attrs) override(buf []byte) []byte {
	for _, id := range []uint32{a.uid, a.gid} {
		if id == noID {
			id = 0 // the archive's number is none
		}
		buf = append(strconv.AppendUint(buf, uint64(id), 10), ':')
	}
	for shift := 9; shift >= 0; shift -= 3 {
		buf = append(buf, '0'+byte(a.mode>>shift&7))
	}
	device := func(kind string) {
		buf = append(buf, kind...)
		buf = append(strconv.AppendUint(buf, uint64(unix.Major(a.dev)), 10), '-')
		buf = strconv.AppendUint(buf, uint64(unix.Minor(a.dev)), 10)
	}
	switch a.typ {
	case unix.S_IFDIR:
		buf = append(buf, ":dir"...)
	case unix.S_IFCHR:
		device(":char-")
	case unix.S_IFBLK:
		device(":block-")
	case unix.S_IFIFO:
		buf = append(buf, ":pipe"...)
	default:
		buf = append(buf, ":file"...)
	}
	return buf
}

// record writes overrideStat, and counts what is not as the image has it. lost is
// why the owner is not, or nil.
func (s *shared) record(fd int, a *attrs, lost error, called label) error {
	var buf [64]byte
	err := unix.Fsetxattr(fd, overrideStat, a.override(buf[:0]), 0)
	if err != nil && !tolerable(err) {
		return &EntryError{Name: called.String(), Op: "set " + overrideStat, Err: err}
	}
	lose := func(recorded, forgotten changeset.Loss, op string, why error) error {
		if err != nil {
			recorded = forgotten
		}
		return s.losses.Lose(recorded, called.String(), op, why)
	}
	if lost != nil {
		if err := lose(changeset.RecordedOwner, changeset.LostOwner, "chown", lost); err != nil {
			return err
		}
	}
	if a.mode&^a.real&setID != 0 {
		if err := lose(changeset.RecordedSetID, changeset.LostSetID, "chmod", unix.EPERM); err != nil {
			return err
		}
	}
	if a.typ != unix.S_IFREG && a.typ != unix.S_IFDIR {
		return lose(changeset.RecordedDevice, changeset.LostDevice, "mknod", unix.EPERM)
	}
	return nil
}
