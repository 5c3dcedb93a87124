// Probe is the one program of the test image: it prints what it finds itself in,
// as lines of NAME value.
package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
)

func main() {
	cwd, _ := os.Getwd()
	host, _ := os.Hostname()
	groups, _ := os.Getgroups()
	fmt.Println("args", strings.Join(os.Args, "|"))
	fmt.Println("cwd", cwd)
	fmt.Println("hostname", host)
	fmt.Println("ids", os.Getuid(), os.Getgid(), groups)
	fmt.Println("pid", os.Getpid())
	env := os.Environ()
	slices.Sort(env)
	fmt.Println("env", strings.Join(env, "|"))
	for _, line := range lines("/proc/self/status") {
		if name, value, _ := strings.Cut(line, ":"); strings.HasPrefix(name, "Cap") || name == "Seccomp" || name == "NoNewPrivs" {
			fmt.Println(name, strings.TrimSpace(value))
		}
	}
	ifs, _ := net.Interfaces()
	var names []string
	for _, i := range ifs {
		names = append(names, i.Name)
	}
	fmt.Println("interfaces", strings.Join(names, " "))
	cgroups := true
	for _, line := range lines("/proc/self/mounts") {
		f := strings.Fields(line)
		fmt.Println("mount", f[1], f[2])
		if strings.HasPrefix(f[2], "cgroup") {
			cgroups = cgroups && os.Mkdir(f[1]+"/x", 0o755) != nil
		}
	}
	fmt.Println("cgroups read-only", cgroups)
	for _, path := range []string{"/sys/x", "/proc/sys/kernel/x", "/proc/sysrq-trigger", "/dev/shm/x", "/x"} {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
		if err == nil {
			f.Close()
		}
		fmt.Println("write", path, err == nil)
	}
	for _, path := range []string{"/proc/kcore", "/proc/interrupts", "/proc/keys"} {
		n := 0
		if f, err := os.Open(path); err == nil {
			n, _ = f.Read(make([]byte, 1))
		}
		fmt.Println("read", path, n == 1)
	}
	_, err := net.Listen("tcp", "127.0.0.1:80")
	fmt.Println("listen 80", err == nil)
	fmt.Println("unshare", syscall.Unshare(syscall.CLONE_NEWUSER))
	fmt.Println("mknod disk", syscall.Mknod("/dev/shm/disk", syscall.S_IFBLK|0o600, 8<<8) == nil && opens("/dev/shm/disk"))
	fmt.Println("null", opens("/dev/null"), "pts", opens("/dev/ptmx"))
}

func opens(path string) bool {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		f.Close()
	}
	return err == nil
}

func lines(path string) (all []string) {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		all = append(all, s.Text())
	}
	return all
}
