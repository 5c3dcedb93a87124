// Command probe runs inside a container and tells what it sees. It is static
// and needs nothing from the image.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

func main() {
	verb, args := os.Args[1], os.Args[2:]
	switch verb {
	case "report":
		report()
	case "hook": // file name host's-mount-namespace code: tells file what it sees, then exits
		hook(args[0], args[1], args[2])
		code, _ := strconv.Atoi(args[3])
		os.Exit(code)
	case "exit":
		n, _ := strconv.Atoi(args[0])
		os.Exit(n)
	case "failing": // says so
		fmt.Println("failing")
		n, _ := strconv.Atoi(args[0])
		os.Exit(n)
	case "print":
		fmt.Println(strings.Join(args, " "))
	case "printerr":
		fmt.Fprintln(os.Stderr, strings.Join(args, " "))
	case "cat":
		for _, name := range args {
			b, err := os.ReadFile(name)
			if err != nil {
				fail(err)
			}
			os.Stdout.Write(b)
		}
	case "echo": // stdin to stdout
		io.Copy(os.Stdout, os.Stdin)
	case "write": // path text
		f, err := os.OpenFile(args[0], os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
		if err == nil {
			_, err = f.WriteString(strings.Join(args[1:], " "))
		}
		if err != nil {
			fail(err)
		}
	case "ls":
		list, err := os.ReadDir(args[0])
		if err != nil {
			fail(err)
		}
		for _, e := range list {
			fmt.Println(e.Name())
		}
	case "wait": // until SIGTERM, then exit 42
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		fmt.Println("ready")
		<-c
		os.Exit(42)
	case "hang": // whatever comes
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
		fmt.Println("ready")
		time.Sleep(time.Hour)
	case "die": // by signal
		n, _ := strconv.Atoi(args[0])
		if os.Getpid() == 1 { // the kernel shields pid 1 from itself
			c, err := syscall.ForkExec("/proc/self/exe", []string{"probe", "die", args[0]}, &syscall.ProcAttr{})
			if err != nil {
				fail(err)
			}
			var ws syscall.WaitStatus
			syscall.Wait4(c, &ws, 0, nil)
			fmt.Println(ws.Signal())
			return
		}
		syscall.Kill(os.Getpid(), syscall.Signal(n))
	case "size": // of the terminal
		var ws [4]uint16
		syscall.Syscall(syscall.SYS_IOCTL, 0, syscall.TIOCGWINSZ, uintptr(unsafe.Pointer(&ws)))
		fmt.Printf("%dx%d\n", ws[1], ws[0])
	case "sizes": // of the terminal, whenever it changes, until a line is typed
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGWINCH)
		fmt.Println("ready")
		go func() {
			for range c {
				var ws [4]uint16
				syscall.Syscall(syscall.SYS_IOCTL, 0, syscall.TIOCGWINSZ, uintptr(unsafe.Pointer(&ws)))
				fmt.Printf("%dx%d\n", ws[1], ws[0])
			}
		}()
		os.Stdin.Read(make([]byte, 1))
	case "syscalls":
		verdicts()
	case "openexe": // tries to write to the program of a process
		for _, name := range args {
			f, err := os.OpenFile(name, os.O_WRONLY, 0)
			fmt.Println(name, err)
			if err == nil {
				f.Close()
			}
		}
	case "memory": // touches n MiB
		n, _ := strconv.Atoi(args[0])
		b := make([]byte, n<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		fmt.Println(len(b))
	case "forks": // starts n children that wait
		n, _ := strconv.Atoi(args[0])
		ok := 0
		for range n {
			if _, err := syscall.ForkExec("/proc/self/exe", []string{"probe", "hang"}, &syscall.ProcAttr{Files: []uintptr{0, 2, 2}}); err == nil {
				ok++
			}
		}
		fmt.Println(ok)
	case "talk": // n lines on each stream, in turn
		n, _ := strconv.Atoi(args[0])
		for i := range n {
			fmt.Println("out", i)
			fmt.Fprintln(os.Stderr, "err", i)
		}
	case "talkfile": // n lines, and then a file
		n, _ := strconv.Atoi(args[0])
		for i := range n {
			fmt.Println("line", i)
		}
		if err := os.WriteFile(args[1], nil, 0o644); err != nil {
			fail(err)
		}
	case "abandon": // n grandchildren, which end; until none of them is left
		n, _ := strconv.Atoi(args[0])
		for range n {
			c, err := syscall.ForkExec("/proc/self/exe", []string{"probe", "abandoned"}, &syscall.ProcAttr{})
			if err != nil {
				fail(err)
			}
			syscall.Wait4(c, nil, 0, nil)
		}
		for {
			all, _ := filepath.Glob("/proc/[0-9]*")
			if len(all) == 2 { // the first process and this one
				break
			}
		}
		fmt.Println("buried")
	case "abandoned":
		if _, err := syscall.ForkExec("/proc/self/exe", []string{"probe", "exit", "0"}, &syscall.ProcAttr{}); err != nil {
			fail(err)
		}
	case "foreground": // is this process in the foreground of its terminal
		var group int32
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, 0, syscall.TIOCGPGRP, uintptr(unsafe.Pointer(&group))); errno != 0 {
			fail(errno)
		}
		fmt.Println(int(group) == syscall.Getpgrp() && os.Getpid() != 1)
	case "three": // waits until a directory has no more than three entries
		for {
			list, err := os.ReadDir(args[0])
			if err != nil {
				fail(err)
			}
			if len(list) <= 3 {
				for _, e := range list {
					fmt.Println(e.Name())
				}
				break
			}
		}
	case "chmod":
		if err := os.Chmod(args[0], 0o755); err != nil {
			fail(err)
		}
	case "readlink":
		to, err := os.Readlink(args[0])
		if err != nil {
			fail(err)
		}
		fmt.Println(to)
	case "status":
		b, _ := os.ReadFile("/proc/self/status")
		for _, line := range strings.Split(string(b), "\n") {
			if strings.HasPrefix(line, args[0]) {
				fmt.Println(line)
			}
		}
	case "pwd":
		dir, err := os.Getwd()
		if err != nil {
			fail(err)
		}
		fmt.Println(dir)
	case "env":
		fmt.Println(os.Getenv(args[0]))
	case "fds":
		var all []string
		for n := range descriptors() {
			all = append(all, n)
		}
		slices.Sort(all)
		fmt.Println(strings.Join(all, " "))
	case "keyring":
		const getKeyringID, sessionKeyring = 0, -3
		spec := sessionKeyring
		id, _, errno := syscall.Syscall(syscall.SYS_KEYCTL, getKeyringID, uintptr(spec), 0)
		if errno != 0 {
			fail(errno)
		}
		fmt.Println(id)
	case "tty":
		to, _ := os.Readlink("/proc/self/fd/0")
		f, err := os.Open("/dev/tty")
		if err != nil {
			fail(err)
		}
		f.Close()
		fmt.Println(to, "controls")
	case "hunt": // for programs that are not this one, until SIGTERM
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		fmt.Println("ready")
		seen := map[string]bool{}
		for {
			select {
			case <-c:
				fmt.Println("done", len(seen) > 0)
				return
			default:
			}
			list, _ := os.ReadDir("/proc")
			for _, e := range list {
				exe := "/proc/" + e.Name() + "/exe"
				to, err := os.Readlink(exe)
				if err != nil {
					continue
				}
				seen[e.Name()] = true
				if to == "/bin/probe" {
					continue
				}
				if f, err := os.OpenFile(exe, os.O_WRONLY, 0); err == nil {
					fmt.Println("writable", to)
					f.Close()
				}
				look(e.Name())
			}
		}
	case "dial": // itself, over its interfaces
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			fail(err)
		}
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			fail(err)
		}
		c.Close()
		fmt.Println(strings.Join(interfaces(), " ") + ": connected")
	case "ids": // real, effective, saved and file system ids; groups
		b, _ := os.ReadFile("/proc/self/status")
		var ids []string
		for _, line := range strings.Split(string(b), "\n") {
			if k, v, _ := strings.Cut(line, ":"); k == "Uid" || k == "Gid" || k == "Groups" {
				ids = append(ids, strings.Join(strings.Fields(v), " "))
			}
		}
		fmt.Println(strings.Join(ids, "|"))
	case "mount":
		try("mount", syscall.Mount("tmpfs", args[0], "tmpfs", 0, ""))
	case "umount":
		try("umount", syscall.Unmount(args[0], 0))
	case "namespaces": // tries to make and mount what it must not
		const newUser = syscall.CLONE_NEWUSER
		try("mount", syscall.Mount("cgroup", "/mnt", "cgroup", 0, "memory"))
		try("unshare", syscall.Unshare(newUser|syscall.CLONE_NEWNS))
		_, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, newUser|uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
		try("clone", errno)
		_, _, errno = syscall.RawSyscall(435, 0, 0, 0)
		try("clone3", errno)
		_, _, errno = syscall.RawSyscall(308, 0, newUser, 0)
		try("setns", errno)
	default:
		fail(errors.New("unknown verb " + verb))
	}
}

// look prints what another process has that this one has not.
func look(pid string) {
	caps := func(pid string) string {
		b, _ := os.ReadFile("/proc/" + pid + "/status")
		_, after, _ := strings.Cut(string(b), "CapPrm:")
		line, _, _ := strings.Cut(after, "\n")
		return strings.TrimSpace(line)
	}
	found := []string{"found"}
	if c := caps(pid); c != "" && c != caps("self") {
		found = append(found, "capabilities "+c)
	}
	fds, _ := os.ReadDir("/proc/" + pid + "/fd")
	for _, fd := range fds {
		to, err := os.Readlink("/proc/" + pid + "/fd/" + fd.Name())
		if err == nil && !strings.HasPrefix(to, "pipe:") && to != "/dev/null" {
			found = append(found, "descriptor "+to)
		}
	}
	// What it has opened as its program is its own.
	if to, err := os.Readlink("/proc/" + pid + "/exe"); err == nil && to != "/bin/probe" {
		fmt.Println(strings.Join(found, "\n"))
	}
}

func try(what string, err error) {
	name := fmt.Sprint(err)
	switch err {
	case syscall.EPERM:
		name = "EPERM"
	case syscall.ENOSYS:
		name = "ENOSYS"
	}
	fmt.Println(what, name)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// report prints everything as JSON, maps sorted.
func report() {
	r := map[string]any{}
	ns := map[string]string{}
	for _, k := range []string{"mnt", "pid", "uts", "ipc", "net", "cgroup", "user", "time"} {
		ns[k], _ = os.Readlink("/proc/self/ns/" + k)
	}
	r["namespaces"] = ns
	status := map[string]string{}
	b, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(b), "\n") {
		k, v, _ := strings.Cut(line, ":")
		switch k {
		case "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Umask", "NSpid", "SigIgn", "SigBlk":
			status[k] = strings.Join(strings.Fields(v), " ")
		}
	}
	r["status"] = status
	host, _ := os.Hostname()
	r["hostname"] = host
	r["cwd"], _ = os.Getwd()
	r["env"] = os.Environ()
	r["args"] = os.Args
	r["mounts"] = mounts()
	limits, _ := os.ReadFile("/proc/self/limits")
	r["limits"] = strings.Split(strings.TrimSpace(string(limits)), "\n")
	r["fds"] = descriptors()
	r["uid_map"] = fields("/proc/self/uid_map")
	r["setgroups"] = fields("/proc/self/setgroups")
	r["oom_score_adj"] = fields("/proc/self/oom_score_adj")
	r["cgroup"] = fields("/proc/self/cgroup")
	r["dev"] = devices()
	r["masked"], r["readonly"] = masks()
	r["interfaces"] = interfaces()
	r["session"] = session()
	r["keyring"] = fields("/proc/self/sessionid")
	json.NewEncoder(os.Stdout).Encode(r)
}

// descriptors are those that the program was started with.
func descriptors() map[string]string {
	fds := map[string]string{}
	// The directory being read is a descriptor too.
	if d, err := os.Open("/proc/self/fd"); err == nil {
		names, _ := d.Readdirnames(-1)
		for _, n := range names {
			if n != strconv.Itoa(int(d.Fd())) {
				to, _ := os.Readlink("/proc/self/fd/" + n)
				if strings.HasPrefix(to, "anon_inode:") || strings.HasPrefix(to, "/sys/fs/cgroup/") && strings.HasPrefix(filepath.Base(to), "cpu.") { // of the Go runtime itself
					continue
				}
				fds[n] = to
			}
		}
	}
	return fds
}

func session() string {
	b, _ := os.ReadFile("/proc/self/stat")
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	return fmt.Sprintf("pgrp %s session %s tty %s", f[2], f[3], f[4])
}

func fields(name string) string {
	b, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	return strings.Join(strings.Fields(string(b)), " ")
}

// mounts are lines "place type options", without ids of devices and mounts.
func mounts() []string {
	b, _ := os.ReadFile("/proc/self/mountinfo")
	var all []string
	for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		f := strings.Fields(line)
		dash := slices.Index(f, "-")
		if dash < 0 {
			continue
		}
		all = append(all, fmt.Sprintf("%s %s %s propagation=%s", f[4], f[dash+1], f[5], strings.Join(f[6:dash], ",")))
	}
	return all
}

func devices() []string {
	var all []string
	filepath.Walk("/dev", func(p string, info os.FileInfo, err error) error {
		if err != nil {
			return nil
		}
		st := info.Sys().(*syscall.Stat_t)
		line := fmt.Sprintf("%s %v %d:%d", p, info.Mode(), st.Uid, st.Gid)
		if info.Mode()&os.ModeDevice != 0 {
			line += fmt.Sprintf(" rdev %d,%d", st.Rdev>>8&0xfff, st.Rdev&0xff)
		}
		if info.Mode()&os.ModeSymlink != 0 {
			to, _ := os.Readlink(p)
			line += " -> " + to
		}
		all = append(all, line)
		return nil
	})
	return all
}

func masks() (masked, readonly map[string]string) {
	masked, readonly = map[string]string{}, map[string]string{}
	for _, p := range []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/proc/latency_stats", "/proc/interrupts", "/proc/acpi",
		"/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap", "/proc/asound", "/sys/devices/system/cpu/cpu0/thermal_throttle"} {
		info, err := os.Stat(p)
		switch {
		case err != nil:
			masked[p] = "absent"
		case info.IsDir():
			list, err := os.ReadDir(p)
			masked[p] = fmt.Sprintf("%d entries %v", len(list), err)
		default:
			f, err := os.Open(p)
			if err != nil {
				masked[p] = err.Error()
				continue
			}
			n, err := f.Read(make([]byte, 1))
			f.Close()
			masked[p] = fmt.Sprintf("%d bytes %v", n, err)
		}
	}
	for _, p := range []string{"/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity", "/sys/kernel/mm/ksm/run", "/sys/fs/cgroup/memory/release_agent",
		"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/proc/self/oom_score_adj"} {
		f, err := os.OpenFile(p, os.O_WRONLY, 0)
		readonly[p] = fmt.Sprint(err)
		if err == nil {
			f.Close()
		}
	}
	return masked, readonly
}

func interfaces() []string {
	b, _ := os.ReadFile("/proc/self/net/dev")
	var all []string
	for _, line := range strings.Split(string(b), "\n") {
		if name, _, ok := strings.Cut(line, ":"); ok {
			all = append(all, strings.TrimSpace(name))
		}
	}
	return all
}

// verdicts makes every system call with arguments that do nothing and prints
// what came back, a child each, as some do not return.
func verdicts() {
	if len(os.Args) == 3 {
		n, _ := strconv.Atoi(os.Args[2])
		bad := ^uintptr(0)
		_, _, errno := syscall.RawSyscall6(uintptr(n), bad, bad, bad, bad, bad, bad)
		os.Exit(int(errno) % 256)
	}
	for n := range 480 {
		if slices.Contains([]int{0, 34, 35, 56, 57, 58, 60, 61, 231, 22, 23, 7, 130, 128, 15, 202, 219, 435, 232, 281, 449, 455, 247, 62, 109, 112, 200}, n) {
			continue // would wait, fork, exit or signal
		}
		pid, err := syscall.ForkExec("/proc/self/exe", []string{"probe", "syscalls", strconv.Itoa(n)}, &syscall.ProcAttr{Files: []uintptr{0, 1, 2}})
		if err != nil {
			fmt.Println(n, "fork", err)
			continue
		}
		var ws syscall.WaitStatus
		syscall.Wait4(pid, &ws, 0, nil)
		switch {
		case ws.Signaled():
			fmt.Println(n, ws.Signal())
		default:
			fmt.Println(n, syscall.Errno(ws.ExitStatus()))
		}
	}
}

// hook adds a line to a file: what a hook is told, and where it runs.
func hook(file, name, hostNS string) {
	var state struct {
		OCIVersion, ID, Status, Bundle string
		Pid                            int
		Annotations                    map[string]string
	}
	if err := json.NewDecoder(os.Stdin).Decode(&state); err != nil {
		fail(err)
	}
	ns, _ := os.Readlink("/proc/self/ns/mnt")
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666)
	if err != nil {
		fail(err)
	}
	pid := "pid"
	if state.Pid == 0 || state.Pid == 1 {
		pid = strconv.Itoa(state.Pid)
	}
	fmt.Fprintln(f, name, state.Status, pid, filepath.Base(state.Bundle), state.Annotations["key"], "host", ns == hostNS, "env", os.Environ(), "uid", os.Getuid(), state.ID != "", state.OCIVersion != "")
	f.Close()
	fmt.Println("said by", name)
}
