package run

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"peel/pkg/bundle"
)

// These are the attacks on runtimes that have worked, each against this one.

func TestLinksInPlaceOfSystemDirectoriesAreRefusedOrStayInside(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	for _, c := range []struct {
		name    string
		files   map[string]string
		refused bool
	}{
		// CVE-2019-19921, CVE-2023-27561, CVE-2025-52881
		{"/proc is a link", map[string]string{"proc": "-> HOST"}, true},
		{"/proc is a relative link", map[string]string{"proc": "-> ../../../../../../HOST"}, true},
		{"/proc is a link inside", map[string]string{"proc": "-> /real", "real/": ""}, true},
		{"/sys is a link inside", map[string]string{"sys": "-> /real", "real/": ""}, true},
		{"/sys is a link", map[string]string{"sys": "-> HOST"}, true},
		{"/sys/fs is a file", map[string]string{"sys": "x"}, true},
		// CVE-2026-41579, CVE-2026-47766
		{"/dev is a link", map[string]string{"dev": "-> HOST"}, true},
		{"/dev is a link inside", map[string]string{"dev": "-> /real", "real/": ""}, true},
		{"/proc holds a look-alike", map[string]string{"proc/self/attr/exec": "x", "proc/sys/kernel/hostname": "x"}, false},
		{"/dev holds links", map[string]string{"dev/pts": "-> HOST", "dev/shm": "-> HOST", "dev/ptmx": "-> HOST/ptmx", "dev/null": "-> HOST/null", "dev/console": "-> HOST/c"}, false},
		// CVE-2024-9341 and its kin
		{"/etc is a link to the host", map[string]string{"etc": "-> HOST", "HOST/": ""}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			host := t.TempDir()
			files := map[string]string{}
			for k, v := range c.files {
				files[strings.ReplaceAll(k, "HOST", host)] = strings.ReplaceAll(v, "HOST", host)
			}
			root := newRootfs(t, files)
			s := probeSpec(t, "print", "ran")
			if _, ok := c.files["etc"]; ok {
				s.Mounts = append(s.Mounts, specs.Mount{Destination: "/etc/hosts", Type: "bind", Source: "/dev/null", Options: []string{"bind"}})
			}
			r := runOnce(t, rt, root, s, CreateOptions{})
			if refused := r.err != nil; refused != c.refused {
				t.Errorf("error %v, refused should be %v", r.err, c.refused)
			}
			if left, _ := os.ReadDir(host); len(left) > 0 {
				t.Errorf("the host's directory now holds %v", left)
			}
		})
	}
}

// CVE-2025-31133: /dev/null of the image is what its masks would be made of.
func TestMasksAreMadeOfTheHostsNull(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, map[string]string{"dev/null": "-> /proc/sysrq-trigger", "secret": "text"})
	s := probeSpec(t, "cat", "/secret")
	// Without a /dev of its own, the container has the image's.
	s.Mounts = slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool { return strings.HasPrefix(m.Destination, "/dev") })
	s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, "/secret")
	if r := runOnce(t, rt, root, s, CreateOptions{}); r.err == nil {
		t.Error("an image whose /dev/null is a link was started")
	}
	os.Remove(filepath.Join(root, "dev/null"))
	r := runOnce(t, rt, root, s, CreateOptions{})
	if r.err != nil || r.code != 0 || r.stdout != "" {
		t.Errorf("got %+v, want an empty /secret", r)
	}
}

// CVE-2024-21626: a working directory that leads to a leaked descriptor.
func TestWorkingDirectoryCannotBeALeakedDescriptor(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, nil)
	host := t.TempDir()
	// Leak on purpose: what the caller's caller left open without close-on-exec.
	leaked, err := syscall.Open(host, syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(leaked)
	for fd := range 64 {
		for _, form := range []string{"/proc/self/fd/%d", "/proc/1/fd/%d", "/proc/thread-self/fd/%d/../x"} {
			s := probeSpec(t, "print", "ran")
			s.Process.Cwd = fmt.Sprintf(form, fd)
			if fd > 12 && fd != leaked && fd%8 != 0 { // the rest are rarely taken
				continue
			}
			if r := runOnce(t, rt, root, s, CreateOptions{}); r.err == nil {
				t.Errorf("cwd %s: started with %+v", s.Process.Cwd, r)
			}
		}
	}
	s := probeSpec(t, "ls", "/proc/self/fd")
	r := runOnce(t, rt, root, s, CreateOptions{})
	// The listing's own descriptor and the epoll and eventfd of the Go runtime
	// are the probe's; see the report of TestWitnesses for their targets.
	if strings.Contains(r.stdout, fmt.Sprintf("\n%d\n", leaked)) && leaked > 6 {
		t.Errorf("descriptor %d of the host came through: %q", leaked, r.stdout)
	}
}

// CVE-2019-5736: the container's program is the runtime itself, and it opens itself.
// That it cannot be written to now, as it runs, would be no defence.
func TestOwnBinaryCannotBeWritten(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, map[string]string{"bin/evil": "#!/proc/self/exe\n"})
	for _, program := range []string{"/proc/self/exe", "/bin/evil"} {
		s := probeSpec(t)
		s.Process.Args = []string{program}
		s.Process.Env = append(s.Process.Env, openSelf+"=1")
		s.Process.Capabilities = bundle.Capabilities(append(bundle.DefaultCapabilities(), "CAP_SYS_PTRACE", "CAP_SYS_ADMIN"), 0)
		for _, dir := range []string{"/lib", "/lib64"} { // a test may be linked to libraries
			if _, err := os.Stat(dir); err == nil {
				s.Mounts = append(s.Mounts, specs.Mount{Destination: dir, Type: "bind", Source: dir, Options: []string{"rbind", "ro"}})
			}
		}
		if r := runOnce(t, rt, root, s, CreateOptions{}); r.stdout != "read-only true <nil>\n" {
			t.Errorf("%s: %+v: %v", program, r, r.err)
		}
	}
}

// openSelf has this program do what an attacker would do with it.
const openSelf = "PEEL_TEST_OPEN_SELF"

func openOurselves() {
	// Whoever has it open by path can open it anew when nothing runs it any more.
	f, err := os.OpenFile("/proc/self/exe", unix.O_PATH, 0)
	var fs unix.Statfs_t
	if err == nil {
		err = unix.Fstatfs(int(f.Fd()), &fs)
	}
	fmt.Println("read-only", fs.Flags&unix.ST_RDONLY != 0, err)
	os.Exit(0)
}

// The same attack on a process that joins. Without CAP_SYS_PTRACE a container
// never sees it. With it, it may see and take over the child that is about to
// become the program, which has nothing that the container has not: no
// capability, no descriptor, no memory that others use, no file to write to.
func TestJoiningGivesTheContainerNothing(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, nil)
	for _, traces := range []bool{false, true} {
		s := probeSpec(t, "hunt")
		if traces {
			s.Process.Capabilities = bundle.Capabilities(append(bundle.DefaultCapabilities(), "CAP_SYS_PTRACE"), 0)
		}
		c, err := rt.Create(t.Context(), Rootfs{Dir: root}, s, CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.StartDetached(); err != nil {
			t.Fatal(err)
		}
		waitForLine(t, c, "ready")
		for range 25 {
			if code, _, err := execOutput(t, c, ExecOptions{}, "print", "x"); code != 0 || err != nil {
				t.Fatalf("exec: %d %v", code, err)
			}
		}
		if err := c.Stop(t.Context(), time.Minute); err != nil {
			t.Fatal(err)
		}
		lines := map[string]int{}
		if err := c.Logs(t.Context(), LogOptions{}, func(e LogEntry) error { lines[strings.TrimSpace(e.Text)]++; return nil }); err != nil {
			t.Fatal(err)
		}
		if lines["done true"] != 1 {
			t.Error("the hunter has seen no process at all")
		}
		for line := range lines {
			if line != "ready" && line != "done true" && (line != "found" || !traces) {
				t.Errorf("a container with CAP_SYS_PTRACE %v has found: %s", traces, line)
			}
		}
	}
}

// CVE-2024-45310, CVE-2021-30465, CVE-2018-15664: a destination is swapped for a
// link while it is being mounted.
func TestSwappedDestinationsNeverReachTheHost(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	host := t.TempDir()
	root := newRootfs(t, map[string]string{"a/b/": "", "evil": "-> " + strings.Repeat("../", 12) + host})
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		dir, evil := filepath.Join(root, "a"), filepath.Join(root, "evil")
		for {
			select {
			case <-stop:
				return
			default:
			}
			_ = exchange(dir, evil)
		}
	}()
	for range 40 {
		s := probeSpec(t, "exit", "0")
		s.Mounts = append(s.Mounts,
			specs.Mount{Destination: "/a/b/c/d/e", Type: "tmpfs", Source: "tmpfs"},
			specs.Mount{Destination: "/a/b/file/x", Type: "bind", Source: "/etc/passwd", Options: []string{"bind"}})
		runOnce(t, rt, root, s, CreateOptions{}) // may fail, must not reach out
	}
	close(stop)
	<-done
	if left, _ := os.ReadDir(host); len(left) > 0 {
		t.Errorf("the host's directory now holds %v", left)
	}
	if b, err := os.ReadFile("/proc/self/mountinfo"); err != nil || bytes.Contains(b, []byte(host)) {
		t.Errorf("a mount on the host: %v", err)
	}
}

// CVE-2022-0492: a fresh user and cgroup namespace gives back the right to mount
// cgroups and to set release_agent.
func TestContainerCannotWriteCgroupsOrMakeUserNamespaces(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, nil)
	for _, name := range []string{"memory/release_agent", "memory/memory.limit_in_bytes", "cgroup.procs", "pids/pids.max", "memory/cgroup.procs"} {
		r := runOnce(t, rt, root, probeSpec(t, "write", "/sys/fs/cgroup/"+name, "1"), CreateOptions{})
		if r.err != nil || r.code == 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	r := runOnce(t, rt, root, probeSpec(t, "namespaces"), CreateOptions{})
	if want := "mount EPERM\nunshare EPERM\nclone EPERM\nclone3 ENOSYS\nsetns EPERM\n"; r.stdout != want {
		t.Errorf("got %q, want %q", r.stdout, want)
	}
}

func TestUserStringsAreRefusedOrRight(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, map[string]string{
		"etc/passwd": "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/var/www:/bin/sh\n",
		"etc/group":  "root:x:0:\nweb:x:33:\nadm:x:4:other,web\nvideo:x:44:web\n",
	})
	for spec, want := range map[string]string{
		"web":        "33 33 33 33|33 33 33 33|4 33 44",
		"33":         "33 33 33 33|33 33 33 33|4 33 44",
		"web:adm":    "33 33 33 33|4 4 4 4|4",
		"1000":       "1000 1000 1000 1000|0 0 0 0|0",
		"1000:1000":  "1000 1000 1000 1000|1000 1000 1000 1000|1000",
		"4294967296": "", "-1": "", "2147483648": "", "0x0": "", "1:99999999999": "", "1000:": "", ":1000": "", "+0": "", "00": "", "nobody": "", "web:nogroup": "",
	} {
		t.Run(spec, func(t *testing.T) {
			r := runOnce(t, rt, root, probeSpec(t, "ids"), CreateOptions{User: spec})
			if got := strings.TrimSpace(r.stdout); got != want || (want == "") != (r.err != nil) {
				t.Errorf("ids %q and error %v, want %q", got, r.err, want)
			}
		})
	}
}

// CVE-2026-47262, CVE-2024-9676: the files that tell names are read by us.
func TestPasswdFilesCannotHangOrFillUs(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	for name, make := range map[string]func(p string) error{
		"two gigabytes": func(p string) error {
			if err := os.WriteFile(p, nil, 0o644); err != nil {
				return err
			}
			return os.Truncate(p, 2<<30)
		},
		"a pipe":                func(p string) error { return syscall.Mkfifo(p, 0o644) },
		"a link to /dev/zero":   func(p string) error { return os.Symlink("/dev/zero", p) },
		"a directory":           func(p string) error { return os.Mkdir(p, 0o755) },
		"a link to the host's":  func(p string) error { return os.Symlink("../../../../../../../../etc/passwd", p) },
		"a device":              func(p string) error { return syscall.Mknod(p, syscall.S_IFCHR|0o666, 1<<8|5) },
		"a line without an end": func(p string) error { return os.WriteFile(p, bytes.Repeat([]byte("x"), 4<<20), 0o644) },
	} {
		t.Run(name, func(t *testing.T) {
			root := newRootfs(t, map[string]string{"etc/": ""})
			if err := make(filepath.Join(root, "etc/passwd")); err != nil {
				t.Fatal(err)
			}
			if r := runOnce(t, rt, root, probeSpec(t, "ids"), CreateOptions{User: "daemon"}); r.err == nil {
				t.Errorf("started with %+v", r)
			}
		})
	}
}

// CVE-2021-43784: lengths that overflow on their way to the kernel.
func TestVeryLongConfigsWorkOrFail(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, nil)
	s := probeSpec(t, "print", "ran")
	for i := range 40 {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: fmt.Sprintf("/d%d/%s", i, strings.Repeat("long/", 40)), Type: "tmpfs", Source: "tmpfs"})
	}
	if r := runOnce(t, rt, root, s, CreateOptions{}); r.err != nil || r.stdout != "ran\n" {
		t.Errorf("40 mounts with long names: %+v", r)
	}
	s = probeSpec(t, "print", "ran")
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/" + strings.Repeat("x/", 3000), Type: "tmpfs", Source: "tmpfs"})
	if r := runOnce(t, rt, root, s, CreateOptions{}); r.err == nil {
		t.Errorf("a path longer than PATH_MAX: %+v", r)
	}
}
