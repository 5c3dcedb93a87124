package guest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// why says in words why the kernel would not execute a program. It only reads.
// An empty answer leaves the errno to speak.
func (p *process) why(program string, errno syscall.Errno) string {
	if !path.IsAbs(program) {
		program = path.Join(p.spec.Cwd, program)
	}
	fd, err := p.root.open(program, unix.O_PATH)
	switch {
	case absent(err) || err == unix.ENOTDIR:
		return "no such file"
	case err == unix.ELOOP:
		return "a loop of symbolic links"
	case err != nil:
		return ""
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	var fs unix.Statfs_t
	if unix.Fstat(fd, &st) != nil || unix.Fstatfs(fd, &fs) != nil {
		return ""
	}
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return "is a directory"
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return "not a regular file"
	case st.Mode&0o111 == 0:
		return "has no execute bit"
	case fs.Flags&unix.ST_NOEXEC != 0:
		return "lies on a file system mounted noexec"
	case errno == unix.EACCES:
		return fmt.Sprintf("not executable by user %d (mode %04o, owner %d:%d), or not reachable", p.user.UID, st.Mode&0o7777, st.Uid, st.Gid)
	}
	return p.whyContent(program, errno)
}

// helper is what the kernel would execute a program by: the interpreter of a
// script, the loader of a program for this machine; empty where there is none, or
// the program cannot be read.
func (p *process) helper() string {
	f, head, err := p.head(p.program)
	if err != nil {
		return ""
	}
	defer f.Close()
	switch {
	case bytes.HasPrefix(head, []byte("#!")):
		return interpreter(head)
	case bytes.HasPrefix(head, []byte("\x7fELF\x02\x01")) && len(head) >= 64 && machines[binary.LittleEndian.Uint16(head[18:])] == runtime.GOARCH:
		return elfLoader(f, head, binary.LittleEndian, true)
	}
	return ""
}

// head opens a program and reads its beginning.
func (p *process) head(program string) (*os.File, []byte, error) {
	if !path.IsAbs(program) {
		program = path.Join(p.spec.Cwd, program)
	}
	f, err := p.root.openRegular(p.proc, program)
	if err != nil {
		return nil, nil, err
	}
	head := make([]byte, 4096)
	n, _ := io.ReadFull(f, head)
	return f, head[:n], nil
}

// whyContent reads the head of a program that is there and executable.
func (p *process) whyContent(program string, errno syscall.Errno) string {
	f, head, err := p.head(program)
	if err != nil {
		return ""
	}
	defer f.Close()
	switch {
	case len(head) == 0:
		return "the file is empty"
	case bytes.HasPrefix(head, []byte("#!")):
		return p.whyScript(head)
	case bytes.HasPrefix(head, []byte("\x7fELF")):
		return p.whyELF(f, head, errno)
	case errno == unix.ENOEXEC && isText(head):
		return "a text file without a #! line"
	case errno == unix.ENOEXEC:
		return "not a program: neither ELF nor #!"
	}
	return ""
}

func isText(b []byte) bool { return !bytes.ContainsRune(b, 0) }

// interpreter is the program that the first line of a script names.
func interpreter(head []byte) string {
	line, _, _ := bytes.Cut(head[2:], []byte("\n"))
	name, _, _ := strings.Cut(strings.TrimLeft(string(line), " \t"), " ")
	return name
}

func (p *process) whyScript(head []byte) string {
	interpreter := interpreter(head)
	if strings.HasSuffix(interpreter, "\r") {
		return fmt.Sprintf("its first line ends in CRLF, so its interpreter would be %q: convert it to Unix line ends", interpreter)
	}
	if interpreter == "" {
		return "its #! line names no interpreter"
	}
	fd, err := p.root.open(interpreter, unix.O_PATH)
	if err != nil {
		return fmt.Sprintf("its interpreter %s: %v", interpreter, err)
	}
	unix.Close(fd)
	return fmt.Sprintf("its interpreter %s cannot be executed", interpreter)
}

// machines are the ELF machine numbers people meet.
var machines = map[uint16]string{3: "386", 40: "arm", 62: "amd64", 183: "arm64", 243: "riscv64", 21: "ppc64", 22: "s390x", 8: "mips", 258: "loong64"}

// whyELF reads the ELF header (gabi, ELF Header and Program Header), bounded by
// head: a program header table lies at the start of any real program.
func (p *process) whyELF(f io.ReaderAt, head []byte, errno syscall.Errno) string {
	if len(head) < 64 {
		return "a truncated ELF file"
	}
	var order binary.ByteOrder = binary.LittleEndian
	if head[5] == 2 {
		order = binary.BigEndian
	}
	wide := head[4] == 2
	if m := order.Uint16(head[18:]); machines[m] != runtime.GOARCH && errno == unix.ENOEXEC {
		name := machines[m]
		if name == "" {
			name = fmt.Sprintf("machine %d", m)
		}
		return fmt.Sprintf("a program for %s, and this machine is %s", name, runtime.GOARCH)
	}
	loader := elfLoader(f, head, order, wide)
	if loader == "" {
		return ""
	}
	fd, err := p.root.open(loader, unix.O_PATH)
	if err != nil {
		return fmt.Sprintf("its loader %s: %v (a program linked against a C library that the image lacks)", loader, err)
	}
	unix.Close(fd)
	return ""
}

// elfLoader returns the path in PT_INTERP, empty for a static program.
func elfLoader(f io.ReaderAt, head []byte, order binary.ByteOrder, wide bool) string {
	var off, size uint64
	var table uint64
	var entry, count uint16
	if wide {
		table, entry, count = order.Uint64(head[32:]), order.Uint16(head[54:]), order.Uint16(head[56:])
	} else {
		table, entry, count = uint64(order.Uint32(head[28:])), order.Uint16(head[42:]), order.Uint16(head[44:])
	}
	for i := range uint64(count) {
		at := table + i*uint64(entry)
		if table > uint64(len(head)) || at+56 > uint64(len(head)) {
			return ""
		}
		h := head[at:]
		if order.Uint32(h) != 3 { // PT_INTERP
			continue
		}
		if wide {
			off, size = order.Uint64(h[8:]), order.Uint64(h[32:])
		} else {
			off, size = uint64(order.Uint32(h[4:])), uint64(order.Uint32(h[16:]))
		}
		if size == 0 || size > 4096 || off > 1<<40 {
			return ""
		}
		name := make([]byte, size)
		if _, err := f.ReadAt(name, int64(off)); err != nil {
			return ""
		}
		return strings.TrimRight(string(name), "\x00")
	}
	return ""
}
