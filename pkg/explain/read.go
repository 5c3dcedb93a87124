package explain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"syscall"
)

// read reads a file of at most limit bytes.
func read(root fs.FS, name string, limit int64) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, gone(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, gone(err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	return b, nil
}

// small is the limit for files whose size the kernel bounds anyway.
const small = 64 << 10

func (p *process) read(name string, limit int64) ([]byte, error) {
	return read(p.fs, p.dir+"/"+name, limit)
}

func (p *process) readlink(name string) (string, error) {
	target, err := fs.ReadLink(p.fs, p.dir+"/"+name)
	return target, gone(err)
}

// gone makes ErrGone of what the kernel says of files of a process that has ended.
// A file that this kernel does not have is the same error; who asks for such a one
// knows.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("%w (%w)", ErrGone, err)
	}
	return err
}

// started is when the process began, in ticks since boot: together with its
// number that is the process's identity.
func (p *process) started() (string, error) {
	b, err := p.read("stat", small)
	if errors.Is(err, ErrGone) {
		return "", ErrGone
	}
	if err != nil {
		return "", err
	}
	return parseStarted(b)
}

// parseStarted finds the time in a stat file. Of a process that has ended and waits
// for its parent to notice, nothing is left to report on.
func parseStarted(b []byte) (string, error) {
	// PID (NAME) STATE ...: the name may hold spaces and parentheses.
	const startAt = 22 - 3 // proc_pid_stat(5): field 22, and the first after the name is 3
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) <= startAt {
		return "", fmt.Errorf("stat %q makes no sense", b)
	}
	if state := string(fields[0]); state == "Z" || state == "X" {
		return "", ErrGone
	}
	return string(fields[startAt]), nil
}

// status reads /proc/PID/status: names, ids, capabilities, seccomp.
func (p *process) status(context.Context) error {
	b, err := p.read("status", small)
	if err != nil {
		return err
	}
	values := map[string]string{}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		values[key] = strings.TrimSpace(value)
	}
	var bad []string
	number := func(s string) int64 {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			bad = append(bad, s)
		}
		return n
	}
	// ids is the field'th of several numbers, or 0.
	id := func(key string, field int) int64 {
		if f := strings.Fields(values[key]); len(f) > field {
			return number(f[field])
		}
		bad = append(bad, key)
		return 0
	}
	const effective = 1 // real, effective, saved, file system
	r := p.r
	r.Name = comm(p.fs, r.PID)
	r.Parent.PID = int(number(values["PPid"]))
	r.UID, r.GID = id("Uid", effective), id("Gid", effective)
	for _, g := range strings.Fields(values["Groups"]) {
		r.Groups = append(r.Groups, int(number(g)))
	}
	r.PIDs = []int{r.PID}
	if inner := strings.Fields(values["NSpid"]); len(inner) > 0 {
		r.PIDs = r.PIDs[:0]
		for _, n := range inner {
			r.PIDs = append(r.PIDs, int(number(n)))
		}
	}
	for _, set := range []struct {
		key  string
		into *CapabilitySet
	}{
		{"CapEff", &r.Capabilities.Effective},
		{"CapPrm", &r.Capabilities.Permitted},
		{"CapBnd", &r.Capabilities.Bounding},
		{"CapInh", &r.Capabilities.Inheritable},
		{"CapAmb", &r.Capabilities.Ambient},
	} {
		if values[set.key] == "" { // CapAmb came with Linux 4.3
			continue
		}
		bits, err := strconv.ParseUint(values[set.key], 16, 64)
		if err != nil {
			bad = append(bad, set.key)
		}
		*set.into = CapabilitySet(bits)
	}
	r.Capabilities.Kernel = len(known)
	if b, err := read(p.fs, "proc/sys/kernel/cap_last_cap", small); err == nil {
		if last, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			r.Capabilities.Kernel = last + 1
		}
	}
	r.NoNewPrivs = values["NoNewPrivs"] == "1"
	switch values["Seccomp"] {
	case "1":
		r.Seccomp.Mode = "strict"
	case "2":
		r.Seccomp.Mode = "filter"
	default:
		r.Seccomp.Mode = "none"
	}
	if n := values["Seccomp_filters"]; n != "" {
		r.Seccomp.Filters = int(number(n))
	}
	if len(bad) > 0 {
		return fmt.Errorf("status makes no sense: %q", bad)
	}
	return nil
}

// unescape undoes the octal escapes with which /proc keeps its lines whole.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// command reads the command line, which lies in the process's own memory.
func (p *process) command(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	type result struct {
		b   []byte
		err error
	}
	// The goroutine ends with its read. That may be as late as the process's end or
	// ours; both break off the wait for a page.
	done := make(chan result, 1)
	go func() {
		const limit = 4 << 10
		f, err := p.fs.Open(p.dir + "/cmdline")
		if err != nil {
			done <- result{nil, gone(err)}
			return
		}
		defer f.Close()
		b, err := io.ReadAll(io.LimitReader(f, limit))
		done <- result{b, gone(err)}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return r.err
		}
		if b := bytes.TrimRight(r.b, "\x00"); len(b) > 0 {
			p.r.Command = strings.Split(string(b), "\x00")
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *process) executable(context.Context) (err error) {
	p.r.Executable, err = p.readlink("exe")
	if errors.Is(err, ErrGone) { // a kernel thread has none
		return nil
	}
	return err
}

func (p *process) parent(context.Context) error {
	if p.r.Parent.PID == 0 {
		return nil
	}
	p.r.Parent.Name = comm(p.fs, p.r.Parent.PID)
	return nil
}

// comm is the name of a process, empty if it has none any more.
func comm(root fs.FS, pid int) string {
	b, err := read(root, fmt.Sprintf("proc/%d/comm", pid), small)
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(b), "\n")
}

// label reads what AppArmor or SELinux call the process.
func (p *process) label(context.Context) error {
	for _, name := range []string{"attr/apparmor/current", "attr/current"} {
		b, err := p.read(name, small)
		if errors.Is(err, fs.ErrPermission) {
			return err
		}
		if err != nil { // no such module, which some kernels call EINVAL
			continue
		}
		if p.r.Label = strings.TrimRight(string(b), "\n\x00"); p.r.Label != "" {
			return nil
		}
	}
	return nil
}
