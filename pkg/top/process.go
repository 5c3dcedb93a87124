// Package top shows processes in the columns of ps(1), as read from /proc. No
// program is run for it: what a container's processes are called, and where
// /bin/ps of a machine comes from, does not matter.
package top

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ticks is the unit of times in /proc/PID/stat, a second's part: USER_HZ, which
// is 100 on every architecture that peel is built for.
const ticks = 100

// ErrGone is a process that has ended.
var ErrGone = errors.New("process has ended")

// Process is what ps shows of one.
type Process struct {
	PID, PPID, PGID, SID int
	UID, GID             int // effective
	State                byte
	Name                 string // at most 15 bytes, as the kernel keeps it
	Args                 []string
	Started              time.Time
	CPU                  time.Duration
	TTY                  string // "?" without
	foreground           bool
	Nice, Threads        int
	Processor            int
	VirtualBytes         uint64
	ResidentBytes        uint64
}

// Read reads a process from proc, a proc file system. ErrGone.
func Read(proc fs.FS, pid int, m Machine) (*Process, error) {
	p := &Process{PID: pid}
	for _, part := range []struct {
		file  string
		parse func(*Process, []byte, Machine) error
	}{{"stat", (*Process).parseStat}, {"status", (*Process).parseStatus}, {"cmdline", (*Process).parseArgs}} {
		b, err := read(proc, path.Join(strconv.Itoa(pid), part.file))
		if err == nil {
			err = part.parse(p, b, m)
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) { // before the opening, and after it
			return nil, ErrGone
		}
		if err != nil {
			return nil, fmt.Errorf("process %d: %s: %w", pid, part.file, err)
		}
	}
	return p, nil
}

// maxFile bounds what is read of a process: its arguments can be megabytes.
const maxFile = 64 << 10

func read(proc fs.FS, name string) ([]byte, error) {
	f, err := proc.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// The fields of /proc/PID/stat that count, as proc_pid_stat(5) numbers them.
const (
	statState     = 3
	statPPID      = 4
	statPGID      = 5
	statSID       = 6
	statTTY       = 7
	statForegroup = 8
	statUserTime  = 14
	statSysTime   = 15
	statNice      = 19
	statThreads   = 20
	statStart     = 22
	statVirtual   = 23
	statResident  = 24
	statProcessor = 39
)

func (p *Process) parseStat(b []byte, m Machine) error {
	// The name in the second field may hold spaces and parentheses.
	begin, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if begin < 0 || end < begin {
		return errors.New("makes no sense")
	}
	p.Name = string(b[begin+1 : end])
	fields := append([]string{"", ""}, strings.Fields(string(b[end+1:]))...)
	if len(fields) < statProcessor {
		return errors.New("is too short")
	}
	var bad error
	number := func(field int) int64 {
		n, err := strconv.ParseInt(fields[field-1], 10, 64)
		if err != nil && bad == nil {
			bad = err
		}
		return n
	}
	p.State = fields[statState-1][0]
	p.PPID, p.PGID, p.SID = int(number(statPPID)), int(number(statPGID)), int(number(statSID))
	p.TTY = ttyName(uint64(uint32(number(statTTY))))
	p.foreground = int(number(statForegroup)) == p.PGID
	p.CPU = time.Duration(number(statUserTime)+number(statSysTime)) * time.Second / ticks
	p.Nice, p.Threads, p.Processor = int(number(statNice)), int(number(statThreads)), int(number(statProcessor))
	p.Started = m.Booted.Add(time.Duration(number(statStart)) * time.Second / ticks)
	p.VirtualBytes, p.ResidentBytes = uint64(number(statVirtual)), uint64(number(statResident)*m.Page)
	return bad
}

// ttyName names the terminal of a device number, as the kernel packs it: the minor
// in bits 0 to 7 and 20 to 31, the major in bits 8 to 19.
func ttyName(dev uint64) string {
	major, minor := dev>>8&0xfff, dev&0xff|dev>>12&0xfff00
	switch {
	case dev == 0:
		return "?"
	case major == 4 && minor < 64:
		return "tty" + strconv.FormatUint(minor, 10)
	case major == 4:
		return "ttyS" + strconv.FormatUint(minor-64, 10)
	case major >= 136 && major <= 143:
		return "pts/" + strconv.FormatUint((major-136)<<8+minor, 10)
	}
	return fmt.Sprintf("%d:%d", major, minor)
}

func (p *Process) parseStatus(b []byte, _ Machine) error {
	// "Uid:", then the real, effective, saved and file system's id.
	for _, id := range []struct {
		key string
		to  *int
	}{{"\nUid:", &p.UID}, {"\nGid:", &p.GID}} {
		_, rest, ok := strings.Cut(string(b), id.key)
		line, _, _ := strings.Cut(rest, "\n")
		f := strings.Fields(line)
		if !ok || len(f) < 2 {
			return fmt.Errorf("has no %s", strings.TrimSpace(id.key))
		}
		n, err := strconv.ParseUint(f[1], 10, 32)
		if err != nil {
			return err
		}
		*id.to = int(n)
	}
	return nil
}

func (p *Process) parseArgs(b []byte, _ Machine) error {
	if b = bytes.TrimRight(b, "\x00"); len(b) > 0 {
		p.Args = strings.Split(string(b), "\x00")
	}
	return nil
}
