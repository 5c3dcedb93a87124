package cgroup

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Usage is what the processes of a group use, and have used. What is not counted,
// because the controller is off or the group is gone, is nil.
type Usage struct {
	CPU *time.Duration // of all processors
	// Memory is in bytes, without file contents that the kernel would give up at
	// once; docker counts so, too.
	Memory      *uint64
	MemoryLimit *uint64 // nil is none
	Pids        *uint64 // processes and threads
	// BlockRead and BlockWritten are bytes from and to block devices.
	BlockRead, BlockWritten *uint64
}

// ReadUsage reads the use of the group with these Paths.
func ReadUsage(paths map[string]string) Usage {
	r := reading(paths)
	return Usage{
		CPU:         r.cpu(),
		Memory:      r.memory(),
		MemoryLimit: r.memoryLimit(),
		Pids:        r.number("pids", "pids.current"),
		BlockRead:   r.block("Read", "rbytes="), BlockWritten: r.block("Write", "wbytes="),
	}
}

// reading is the directories of a group by controller, "" for version 2.
type reading map[string]string

// text reads a file of a controller, of which v2 tells the version.
func (r reading) text(controller, v1, v2 string) (text string, isV2, ok bool) {
	dir, name := r[controller], v1
	if dir == "" {
		dir, name, isV2 = r[""], v2, true
	}
	if dir == "" || name == "" {
		return "", isV2, false
	}
	b, err := os.ReadFile(filepath.Join(dir, name))
	return strings.TrimSpace(string(b)), isV2, err == nil
}

func (r reading) number(controller, file string) *uint64 {
	text, _, ok := r.text(controller, file, file)
	return parse(text, ok)
}

func parse(text string, ok bool) *uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || !ok {
		return nil
	}
	return &n
}

// field finds the number behind a key in lines of "KEY NUMBER".
func field(text, key string) *uint64 {
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), " "); ok && k == key {
			return parse(v, true)
		}
	}
	return nil
}

func (r reading) cpu() *time.Duration {
	text, isV2, ok := r.text("cpuacct", "cpuacct.usage", "cpu.stat")
	n, unit := parse(text, ok), time.Nanosecond
	if isV2 {
		n, unit = field(text, "usage_usec"), time.Microsecond
	}
	if n == nil {
		return nil
	}
	d := time.Duration(*n) * unit
	return &d
}

func (r reading) memory() *uint64 {
	text, isV2, ok := r.text("memory", "memory.usage_in_bytes", "memory.current")
	used := parse(text, ok)
	key := "total_inactive_file"
	if isV2 {
		key = "inactive_file"
	}
	stat, _, _ := r.text("memory", "memory.stat", "memory.stat")
	if idle := field(stat, key); used != nil && idle != nil && *idle < *used {
		*used -= *idle
	}
	return used
}

func (r reading) memoryLimit() *uint64 {
	text, _, ok := r.text("memory", "memory.limit_in_bytes", "memory.max")
	n := parse(text, ok) // "max" is none in version 2
	const none = math.MaxInt64 &^ (1<<16 - 1)
	if n != nil && *n >= none { // which version 1 says in whole pages
		return nil
	}
	return n
}

// block sums up over all devices: lines of "8:0 Read 4096" in version 1, of
// "8:0 rbytes=4096 wbytes=0 ..." in version 2.
func (r reading) block(v1, v2 string) *uint64 {
	text, isV2, ok := r.text("blkio", "blkio.throttle.io_service_bytes_recursive", "io.stat")
	if !ok {
		return nil
	}
	var sum uint64
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		for i, word := range words {
			var digits string
			switch {
			case isV2:
				var found bool
				if digits, found = strings.CutPrefix(word, v2); !found {
					continue
				}
			case word == v1 && i+1 < len(words):
				digits = words[i+1]
			default:
				continue
			}
			if n := parse(digits, true); n != nil {
				sum += *n
			}
		}
	}
	return &sum
}
