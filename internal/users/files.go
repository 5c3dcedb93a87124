package users

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	passwdFile = "/etc/passwd"
	groupFile  = "/etc/group"
)

// Bounds of what is read. The files of real images are a few KiB.
const (
	maxFile = 16 << 20
	maxLine = 1 << 20
)

// FileError is a passwd or group file that is not read: no regular file, or beyond
// a bound.
type FileError struct {
	File   string
	Reason string
}

func (e *FileError) Error() string { return fmt.Sprintf("the image's %s %s", e.File, e.Reason) }

// eachLine calls f with the fields of each line of a file, until f says false. A
// file that is not there has no lines.
func eachLine(root *os.File, name string, f func(fields []string) bool) error {
	file, err := openRegular(root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	// The size is known, but a file may grow while it is read.
	lines := bufio.NewScanner(io.LimitReader(file, maxFile))
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		if l := strings.TrimSpace(lines.Text()); l != "" && l[0] != '#' && !f(strings.Split(l, ":")) {
			return nil
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return &FileError{name, fmt.Sprintf("has a line of more than %d bytes", maxLine)}
	}
	return lines.Err()
}

// openRegular opens a file for reading, links resolved as in a chroot. What is
// there may be anything, and opening alone can do harm: a pipe waits for a writer,
// a watchdog device reboots the host. So the name is resolved without opening, and
// only what turned out to be a regular file is opened, through the descriptor that
// was looked at.
func openRegular(root *os.File, name string) (*os.File, error) {
	fd, err := resolve(root, name)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: name, Err: err}
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, &FileError{name, "is not a regular file"}
	case st.Size > maxFile:
		return nil, &FileError{name, fmt.Sprintf("has %d bytes, more than %d", st.Size, maxFile)}
	}
	return os.OpenFile("/proc/self/fd/"+strconv.Itoa(fd), unix.O_RDONLY|unix.O_NOCTTY, 0)
}

// resolve gives an O_PATH descriptor of the file.
func resolve(root *os.File, name string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	for tries := 0; ; tries++ {
		fd, err := unix.Openat2(int(root.Fd()), name, &how)
		// EAGAIN: something was renamed while a ".." was resolved, and the kernel
		// could not prove it harmless (openat2(2)).
		if (err == unix.EAGAIN || err == unix.EINTR) && tries < 128 {
			continue
		}
		return fd, err
	}
}
