package top

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"
)

// Machine is what the numbers of all processes are relative to.
type Machine struct {
	Now    time.Time
	Booted time.Time
	Memory uint64 // bytes
	Page   int64  // bytes
	// UserName and GroupName give the name of an id, "" for one without; nil where
	// there are none.
	UserName, GroupName func(id int) string
}

// Host is this machine now, of which proc is a proc file system.
func Host(proc fs.FS) (Machine, error) {
	m := Machine{Now: time.Now(), Page: int64(os.Getpagesize()), UserName: userName, GroupName: groupName}
	booted, err := number(proc, "stat", "btime")
	if err != nil {
		return m, err
	}
	memory, err := number(proc, "meminfo", "MemTotal:")
	m.Booted, m.Memory = time.Unix(booted, 0), uint64(memory)<<10
	return m, err
}

// number finds the number behind key at the beginning of a line.
func number(proc fs.FS, file, key string) (int64, error) {
	b, err := read(proc, file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == key {
			return strconv.ParseInt(f[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("/proc/%s has no %s", file, key)
}

func userName(id int) string {
	if u, err := user.LookupId(strconv.Itoa(id)); err == nil {
		return u.Username
	}
	return ""
}

func groupName(id int) string {
	if g, err := user.LookupGroupId(strconv.Itoa(id)); err == nil {
		return g.Name
	}
	return ""
}
