// Package selfexe opens the running program so that a child can execute it
// again, and so that nobody who meets that child can write to it.
//
// A process in a container reaches the program of another one through
// /proc/PID/exe, and a container's root may open that for writing
// (CVE-2019-5736). So a child never executes the file on disk: it executes the
// same file seen through a private, read-only mount that is attached nowhere,
// or, where that cannot be made, a sealed copy in memory. A user's container has
// no ids but the user's own and his subordinate ones: if the file is root's, and
// only root may write to it, it is safe as it is.
package selfexe

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// lowest keeps the descriptor clear of those that a child's list of files
// occupies: the child renumbers its list before it executes this one by number.
const lowest = 128

// Open returns a descriptor to execute through Path. It is the caller's.
func Open() (*os.File, error) {
	if f := inherited(); f != nil {
		return f, nil
	}
	f, err := readOnlyMount()
	if err == nil {
		return f, nil
	}
	if f, err := untouchable(); err == nil && f != nil {
		return f, nil
	}
	return sealedCopy()
}

// inherited opens what this process itself was executed from, if that is what Open
// has returned to its parent: a sealed copy, or a read-only mount that is attached
// nowhere. Such a mount cannot be cloned once it has lost its namespace.
func inherited() *os.File {
	fd, err := unix.Open("/proc/self/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if sealed := err == nil && seals&unix.F_SEAL_WRITE != 0; !sealed && !detachedReadOnly(fd) {
		unix.Close(fd)
		return nil
	}
	f, err := raise(fd)
	if err != nil {
		return nil
	}
	return f
}

// detachedReadOnly says whether a file lies on a read-only mount that is not in
// the mount table of this process, where it could become writable.
func detachedReadOnly(fd int) bool {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil || fs.Flags&unix.ST_RDONLY == 0 {
		return false
	}
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st); err != nil || st.Mask&unix.STATX_MNT_ID == 0 {
		return false
	}
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false
	}
	id := strconv.FormatUint(st.Mnt_id, 10) + " "
	return !bytes.HasPrefix(table, []byte(id)) && !bytes.Contains(table, []byte("\n"+id))
}

// untouchable opens the file on disk if nobody but root of the machine can write
// to it and this process is not root; else it returns nil.
func untouchable() (*os.File, error) {
	if os.Geteuid() == 0 {
		return nil, nil
	}
	var st unix.Stat_t
	fd, err := unix.Open("/proc/self/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Fstat(fd, &st); err != nil || st.Uid != 0 || st.Mode&0o022 != 0 {
		unix.Close(fd)
		return nil, err
	}
	return raise(fd)
}

// Path is the name under which a child can execute f.
func Path(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

func readOnlyMount() (*os.File, error) {
	tree, err := unix.OpenTree(unix.AT_FDCWD, "/proc/self/exe", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer unix.Close(tree)
	// nosuid: execve through it never gains anything.
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID, Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return nil, err
	}
	// A descriptor opened by path holds the mount; the tree's own is dissolved
	// with the descriptor that made it.
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", tree), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return raise(fd)
}

func sealedCopy() (*os.File, error) {
	src, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	defer src.Close()
	flags := unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("peel", flags|unix.MFD_EXEC)
	if err == unix.EINVAL { // before Linux 6.3
		fd, err = unix.MemfdCreate("peel", flags)
	}
	if err != nil {
		return nil, fmt.Errorf("copy of the program in memory: %w", err)
	}
	mem, err := raise(fd)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(mem, src); err != nil {
		mem.Close()
		return nil, fmt.Errorf("copy of the program in memory: %w", err)
	}
	seals := unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(mem.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		mem.Close()
		return nil, fmt.Errorf("seal the copy of the program: %w", err)
	}
	// execve refuses a file that is open for writing.
	ro, err := unix.Open(Path(mem), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	mem.Close()
	if err != nil {
		return nil, fmt.Errorf("copy of the program in memory: %w", err)
	}
	return raise(ro)
}

// raise moves fd above lowest.
func raise(fd int) (*os.File, error) {
	up, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, lowest)
	unix.Close(fd)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(up), "self"), nil
}
