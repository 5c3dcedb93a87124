package explain

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// The test binary is also the process that is looked at. confined cuts its powers
// down and executes confinedReady, which tells what it sees and waits.
const (
	confined      = "explain-test-confined"
	confinedReady = "explain-test-ready"
)

func TestMain(m *testing.M) {
	switch os.Args[len(os.Args)-1] {
	case confined:
		// Powers are a thread's; the thread that executes becomes the process.
		runtime.LockOSThread()
		err := errors.Join(
			unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_ADMIN, 0, 0, 0),
			unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
			unix.Exec("/proc/self/exe", []string{"a program", "with an argument", confinedReady}, nil))
		fmt.Println(err)
		os.Exit(1)
	case confinedReady:
		for _, kind := range kinds {
			target, _ := os.Readlink("/proc/self/ns/" + kind)
			fmt.Println(target)
		}
		fmt.Println("ready")
		os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// startConfined starts a process in namespaces of its own, which ends with the
// test, and returns what its own /proc/self/ns says.
func startConfined(t *testing.T, extra ...*os.File) (cmd *exec.Cmd, namespaces map[string]string) {
	t.Helper()
	cmd = exec.Command("/proc/self/exe", confined)
	cmd.ExtraFiles = extra
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET |
			syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) {
			t.Skipf("needs user namespaces: %v", err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
	})
	namespaces = map[string]string{}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if lines.Text() == "ready" {
			return cmd, namespaces
		}
		kind, _, _ := strings.Cut(lines.Text(), ":")
		namespaces[kind] = lines.Text()
	}
	t.Fatalf("the process did not get ready: %v, %v", namespaces, lines.Err())
	return nil, nil
}

func TestLiveProcess(t *testing.T) {
	host, err := os.Open("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	dir, err := os.OpenFile("/etc", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cmd, namespaces := startConfined(t, host, dir)
	r, err := Process(t.Context(), os.DirFS("/"), cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Namespaces) < 7 {
		t.Errorf("namespaces: %+v", r.Namespaces)
	}
	for _, n := range r.Namespaces {
		if got := fmt.Sprintf("%s:[%d]", n.Kind, n.Inode); got != namespaces[n.Kind] {
			t.Errorf("found %s, the process itself sees %s", got, namespaces[n.Kind])
		}
		own := n.Kind != "cgroup" && n.Kind != "time"
		if n.Host == own || own && n.Shared != 0 || !own && n.Shared == 0 {
			t.Errorf("%+v, own %v", n, own)
		}
	}
	if want := []string{"a program", "with an argument", confinedReady}; !slices.Equal(r.Command, want) {
		t.Errorf("command %q, want %q", r.Command, want)
	}
	if exe, err := os.Executable(); err != nil || r.Executable != exe {
		t.Errorf("executable %q, want %q (%v)", r.Executable, exe, err)
	}
	if len(r.PIDs) < 2 || r.PIDs[0] != cmd.Process.Pid || r.PIDs[len(r.PIDs)-1] != 1 {
		t.Errorf("numbers %v, want %d first and 1 last", r.PIDs, cmd.Process.Pid)
	}
	if r.Parent.PID != os.Getpid() || r.Parent.Name == "" {
		t.Errorf("parent %+v, want %d", r.Parent, os.Getpid())
	}
	if want := []IDRange{{0, int64(os.Geteuid()), 1}}; !slices.Equal(r.UIDMap, want) || Identity(r.UIDMap) {
		t.Errorf("uid map %v, want %v", r.UIDMap, want)
	}
	if !r.NoNewPrivs {
		t.Error("no_new_privs is not seen")
	}
	if c := r.Capabilities; c.Effective.Has(unix.CAP_SYS_ADMIN) || c.Bounding.Has(unix.CAP_SYS_ADMIN) || !c.Effective.Has(unix.CAP_CHOWN) {
		t.Errorf("capabilities %+v", c)
	}
	for _, want := range []Descriptor{{3, "/etc/passwd", "r", false}, {4, "/etc", "path", true}} {
		if !slices.Contains(r.HostFiles, want) { // among what else this test was started with
			t.Errorf("host files %v, want %v among them", r.HostFiles, want)
		}
	}
	if r.Root.Type == "" {
		t.Errorf("root %+v", r.Root)
	}
	if r.Cgroup.Path == "" {
		t.Errorf("cgroup %+v", r.Cgroup)
	}
	if len(r.Unreadable) > 0 && os.Geteuid() == 0 {
		t.Errorf("unreadable %+v", r.Unreadable)
	}
}

func TestOwnProcessIsNotConfined(t *testing.T) {
	r, err := Process(t.Context(), os.DirFS("/"), os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range r.Namespaces {
		// Where process 1 may not be asked, this one is the measure.
		if _, err := os.Readlink("/proc/1/ns/" + n.Kind); err != nil && !n.Host {
			t.Errorf("%+v", n)
		}
	}
	if len(r.PIDs) == 0 || r.PIDs[0] != os.Getpid() {
		t.Errorf("numbers %v", r.PIDs)
	}
}

func TestLiveProcessThatHasEndedIsGone(t *testing.T) {
	cmd, _ := startConfined(t)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// Wait, but leave the zombie: its number is still taken, and its parent's.
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := Process(context.Background(), os.DirFS("/"), cmd.Process.Pid); !errors.Is(err, ErrGone) {
		t.Errorf("a zombie: %v, want ErrGone", err)
	}
	cmd.Wait()
	if _, err := Process(context.Background(), os.DirFS("/"), cmd.Process.Pid); !errors.Is(err, ErrGone) {
		t.Errorf("no process: %v, want ErrGone", err)
	}
}
