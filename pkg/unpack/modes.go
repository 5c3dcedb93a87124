package unpack

import (
	"golang.org/x/sys/unix"
)

// lastModes gives directories the modes that would have kept a caller without
// privilege from working in them. The root has its turn after it was renamed,
// which needs write permission too: it is left to the function returned.
//
// Directories are found by inode, in a walk over the whole result: their places
// have changed in merging. Few images need it, and root never does.
func (m *merger) lastModes() (root func() error, err error) {
	fd, err := m.openResult("")
	if err != nil {
		return nil, err
	}
	defer fd.Close()
	if len(m.modes) == 0 {
		return func() error { return nil }, nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(fd.Fd()), &st); err != nil {
		return nil, err
	}
	rootMode, late := m.modes[st.Ino]
	delete(m.modes, st.Ino)
	if err := m.modesBelow(int(fd.Fd())); err != nil {
		return nil, err
	}
	return func() error {
		if !late {
			return nil
		}
		return unix.Chmod(procPath(int(m.root.File().Fd())), rootMode)
	}, nil
}

// modesBelow comes to a directory after all below it.
func (m *merger) modesBelow(dirfd int) error {
	return eachEntry(dirfd, func(e dirent) error {
		if e.typ != unix.DT_DIR {
			return nil
		}
		fd, err := openSub(dirfd, e.text())
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := m.modesBelow(fd); err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		if mode, ok := m.modes[st.Ino]; ok {
			return unix.Fchmod(fd, mode)
		}
		return nil
	})
}

func (m *merger) close() {
	m.root.Close()
	unix.Close(m.trash)
}
