// Package memory makes processes small that have nothing to do but wait.
package memory

import (
	"bufio"
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

// Shrink gives back what memory a process does not need that will only wait from
// now on: the heap's, and the pages of the program itself, which start-up has
// touched and which come back from the page cache if they are needed again.
func Shrink() {
	debug.SetGCPercent(20)
	debug.FreeOSMemory()
	fd, err := unix.Open("/proc/self/smaps", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return // it only costs memory
	}
	defer unix.Close(fd)
	for _, m := range cleanMappings(raw(fd)) {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED)
	}
}

// raw is a descriptor that the runtime's poller, which costs two more, need not
// know.
type raw int

func (fd raw) Read(b []byte) (int, error) {
	n, err := unix.Read(int(fd), b)
	if n <= 0 && err == nil {
		err = io.EOF
	}
	return max(n, 0), err
}

type mapping struct{ from, to uintptr }

// cleanMappings are the mappings of files that cannot be written to and never
// were. Dropping a page that was, before its mapping became read-only as a
// dynamic linker does, would lose what was written.
func cleanMappings(smaps io.Reader) []mapping {
	var all []mapping
	candidate := mapping{}
	for lines := bufio.NewScanner(smaps); lines.Scan(); {
		// "00400000-00a2d000 r-xp 00000000 fe:00 1234 /path", and then lines
		// "Anonymous: 0 kB": what is no longer the file's.
		var m mapping
		var inode, anonymous uint64
		var perms, offset, dev string
		line := lines.Text()
		if n, _ := fmt.Sscanf(line, "%x-%x %s %s %s %d", &m.from, &m.to, &perms, &offset, &dev, &inode); n == 6 {
			candidate = mapping{}
			if inode != 0 && strings.HasPrefix(perms, "r") && !strings.Contains(perms, "w") && strings.HasSuffix(perms, "p") {
				candidate = m
			}
			continue
		}
		if n, _ := fmt.Sscanf(line, "Anonymous: %d kB", &anonymous); n == 1 && anonymous == 0 && candidate.to != 0 {
			all = append(all, candidate)
		}
	}
	return all
}
