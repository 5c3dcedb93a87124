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

	"peel/internal/beneath"
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
func eachLine(root *beneath.Dir, name string, f func(fields []string) bool) error {
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
func openRegular(root *beneath.Dir, name string) (*os.File, error) {
	f, err := root.Follow(name, unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	switch {
	case !st.Mode().IsRegular():
		return nil, &FileError{name, "is not a regular file"}
	case st.Size() > maxFile:
		return nil, &FileError{name, fmt.Sprintf("has %d bytes, more than %d", st.Size(), maxFile)}
	}
	return os.OpenFile("/proc/self/fd/"+strconv.Itoa(int(f.Fd())), unix.O_RDONLY|unix.O_NOCTTY, 0)
}
