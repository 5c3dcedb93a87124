// Init is the first program of a virtual machine of the tests. Out of the
// initramfs it finds the disk and moves there; then it runs the jobs it finds,
// one after the other, and turns the machine off.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"peel/e2e/vm/job"
)

const runner = "run-jobs"

func main() {
	if os.Args[0] == runner {
		if err := runJobs(); err != nil {
			fmt.Fprintln(os.Stderr, "jobs:", err)
			os.Exit(1)
		}
		return
	}
	if err := first(); err != nil {
		fmt.Fprintln(os.Stderr, "init:", err)
	}
	unix.Sync()
	// The end of the machine is the answer, whatever came before.
	fmt.Fprintln(os.Stderr, "init:", unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF))
}

// first is process 1.
func first() error {
	if _, err := os.Stat("/modules"); err == nil {
		if err := moveToDisk(); err != nil {
			return err
		}
	}
	if err := furnish(); err != nil {
		return err
	}
	// Process 1 is the parent of all whose own has ended. It waits for them, and
	// nothing else in this program may then wait for children.
	self, err := os.Executable()
	if err != nil {
		return err
	}
	pid, err := syscall.ForkExec(self, []string{runner}, &syscall.ProcAttr{Env: environ, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setsid: true}})
	if err != nil {
		return err
	}
	for {
		ended, err := unix.Wait4(-1, nil, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || ended == pid {
			return err
		}
	}
}

var environ = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TMPDIR=/tmp", "USER=root"}

// moveToDisk leaves the initramfs, whose root cannot be pivoted away from.
func moveToDisk() error {
	if err := mount("devtmpfs", "/dev", "devtmpfs", 0, ""); err != nil {
		return err
	}
	modules, err := filepath.Glob("/modules/*") // named in the order they need
	if err != nil {
		return err
	}
	for _, m := range modules {
		f, err := os.Open(m)
		if err != nil {
			return err
		}
		flags := 0
		if strings.HasSuffix(m, ".xz") {
			flags = unix.MODULE_INIT_COMPRESSED_FILE
		}
		err = unix.FinitModule(int(f.Fd()), "", flags)
		f.Close()
		if err != nil && err != unix.EEXIST {
			return fmt.Errorf("module %s: %w", m, err)
		}
	}
	const disk = "/dev/vda"
	for deadline := time.Now().Add(30 * time.Second); ; {
		if _, err := os.Stat(disk); err == nil {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not appear", disk)
		}
		time.Sleep(10 * time.Millisecond) // nothing here tells of devices
	}
	if err := mount(disk, "/disk", "ext4", 0, ""); err != nil {
		return err
	}
	if err := os.Chdir("/disk"); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return syscall.Exec("/vm/init", []string{"init"}, environ)
}

func mount(source, target, kind string, flags uintptr, data string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		return fmt.Errorf("mount %s: %w", target, err)
	}
	return nil
}

// furnish makes of the disk what tests expect of a machine.
func furnish() error {
	const safe = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	for _, m := range []struct {
		kind, target string
		flags        uintptr
		data         string
		may          bool // fail
	}{
		{"devtmpfs", "/dev", unix.MS_NOSUID, "", false},
		{"proc", "/proc", safe, "", false},
		{"sysfs", "/sys", safe, "", false},
		{"tmpfs", "/run", unix.MS_NOSUID | unix.MS_NODEV, "mode=755", false},
		{"devpts", "/dev/pts", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=620,ptmxmode=666", false},
		{"tmpfs", "/dev/shm", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777", false},
		{"mqueue", "/dev/mqueue", safe, "", true},
		{"cgroup2", "/sys/fs/cgroup", safe, "", false},
		{"securityfs", "/sys/kernel/security", safe, "", true},
		{"selinuxfs", "/sys/fs/selinux", unix.MS_NOSUID | unix.MS_NOEXEC, "", true},
	} {
		if m.may && strings.HasPrefix(m.target, "/sys/") {
			if _, err := os.Stat(m.target); err != nil {
				continue // not in this kernel
			}
		}
		if err := mount(m.kind, m.target, m.kind, m.flags, m.data); err != nil && !m.may {
			return err
		}
	}
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(target, "/dev/"+name); err != nil && !os.IsExist(err) {
			return err
		}
	}
	if err := loadSELinux(); err != nil {
		return err
	}
	// Shared, as every system that runs containers has it.
	if err := unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		return err
	}
	if err := os.Chmod("/tmp", 0o1777); err != nil {
		return err
	}
	// mkfs has the owners of the machine outside, which may be a user's.
	if err := filepath.WalkDir("/", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		if d.IsDir() && path != "/" && mountedOn(path) {
			return fs.SkipDir
		}
		if st.Uid == 0 && st.Gid == 0 {
			return nil
		}
		return os.Lchown(path, 0, 0)
	}); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte("vm")); err != nil {
		return err
	}
	// The kernel's own is 1024, and Go programs see more than they are given.
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 20000, Max: 20000}); err != nil {
		return err
	}
	return upLoopback()
}

// loadSELinux loads the policy that is there for a kernel that waits for one, and
// has it enforced.
func loadSELinux() error {
	policy, err := os.ReadFile("/vm/selinux.policy")
	if os.IsNotExist(err) {
		return nil
	}
	for _, w := range []struct {
		file string
		text []byte
	}{{"load", policy}, {"enforce", []byte("1")}} {
		if err == nil {
			err = os.WriteFile("/sys/fs/selinux/"+w.file, w.text, 0)
		}
	}
	return err
}

// mountedOn tells a directory that is on another file system than its parent.
func mountedOn(path string) bool {
	var here, above unix.Stat_t
	return unix.Lstat(path, &here) == nil && unix.Lstat(filepath.Dir(path), &above) == nil && here.Dev != above.Dev
}

func upLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}

// events go to the second serial port.
type events struct {
	mu  sync.Mutex
	out *json.Encoder // guarded by mu
}

func (e *events) send(v job.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	_ = e.out.Encode(v) // who listens notices a silence
}

type output struct {
	to   *events
	name string
}

func (o output) Write(p []byte) (int, error) {
	o.to.send(job.Event{Job: o.name, Output: string(p)})
	return len(p), nil
}

func runJobs() error {
	port, err := os.OpenFile("/dev/ttyS1", os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	t, err := unix.IoctlGetTermios(int(port.Fd()), unix.TCGETS)
	if err != nil {
		return err
	}
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG
	if err := unix.IoctlSetTermios(int(port.Fd()), unix.TCSETS, t); err != nil {
		return err
	}
	b, err := os.ReadFile(job.File)
	if err != nil {
		return err
	}
	var jobs []job.Job
	if err := json.Unmarshal(b, &jobs); err != nil {
		return err
	}
	e := &events{out: json.NewEncoder(port)}
	for _, j := range jobs {
		cmd := exec.Command(j.Args[0], j.Args[1:]...)
		cmd.Env, cmd.Dir = append(environ, j.Env...), j.Dir
		o := output{e, j.Name}
		cmd.Stdout, cmd.Stderr = o, o
		cmd.WaitDelay = 10 * time.Second // for who still has its output open
		code := 0
		if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
			code = -1
			if cmd.ProcessState == nil {
				fmt.Fprintln(o, err)
			} else if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
				code = 128 + int(ws.Signal())
			} else {
				code = ws.ExitStatus()
			}
		}
		e.send(job.Event{Job: j.Name, Ended: true, Code: code})
	}
	// What is written is not sent yet.
	return unix.IoctlSetInt(int(port.Fd()), unix.TCSBRK, 1)
}
