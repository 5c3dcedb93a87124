package rawfork

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "child" {
		sid, _ := unix.Getsid(0)
		fmt.Printf("uid %d, leader %v, X=%s, 3 open %v", os.Getuid(), sid == os.Getpid(), os.Getenv("X"), isOpen(3))
		os.Exit(7)
	}
	os.Exit(m.Run())
}

// isOpen says whether a descriptor is something that the test has left open.
func isOpen(fd int) bool {
	to, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	return err == nil && strings.HasPrefix(to, "pipe:")
}

// start runs this test's child and returns what it printed and its exit code.
func start(t *testing.T, path string, a *Attr) (string, int, error) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	// Left open without close-on-exec, as a careless caller's.
	leak, err := unix.Dup(int(w.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	a.Files, a.Env = []uintptr{0, w.Fd(), 2}, []string{"X=1"}
	var pid int
	c, err := New(path, []string{"test", "child"}, a)
	if err != nil {
		t.Fatal(err)
	}
	err = OnSpentThread(func() (err error) {
		if err := c.Isolate(); err != nil {
			return err
		}
		pid, err = c.Fork()
		return err
	})
	if err == nil {
		_, err = c.Finish(pid)
	}
	c.Close() // also its copy of w
	w.Close()
	unix.Close(leak)
	if err != nil {
		return "", 0, err
	}
	b, _ := io.ReadAll(r)
	var ws unix.WaitStatus
	if _, err := unix.Wait4(pid, &ws, 0, nil); err != nil {
		t.Fatal(err)
	}
	return string(b), ws.ExitStatus(), nil
}

func TestTheChildHasWhatItWasGiven(t *testing.T) {
	for _, c := range []struct {
		name string
		a    Attr
		want string
	}{
		{"nothing asked for", Attr{}, fmt.Sprintf("uid %d, leader false, X=1, 3 open false", os.Getuid())},
		{"a session", Attr{Setsid: true}, fmt.Sprintf("uid %d, leader true, X=1, 3 open false", os.Getuid())},
		{"root of a new user namespace", Attr{Flags: unix.CLONE_NEWUSER, Root: true, Prepare: mapSelf}, "uid 0, leader false, X=1, 3 open false"},
	} {
		got, code, err := start(t, "/proc/self/exe", &c.a)
		if errors.Is(err, unix.EPERM) && c.a.Flags != 0 {
			t.Logf("SKIPPED: %s: user namespaces cannot be made here", c.name)
			continue
		}
		if got != c.want || code != 7 || err != nil {
			t.Errorf("%s: %q, exit code %d, %v; want %q and 7", c.name, got, code, err, c.want)
		}
	}
}

// mapSelf maps root of the namespace of pid to this user.
func mapSelf(pid int) error {
	for file, text := range map[string]string{
		"uid_map": fmt.Sprintf("0 %d 1", os.Geteuid()), "setgroups": "deny",
	} {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/%s", pid, file), []byte(text), 0); err != nil {
			return err
		}
	}
	return os.WriteFile(fmt.Sprintf("/proc/%d/gid_map", pid), []byte(fmt.Sprintf("0 %d 1", os.Getegid())), 0)
}

func TestWhatGoesWrongInTheChildIsTold(t *testing.T) {
	refused := errors.New("refused")
	for _, c := range []struct {
		name, path string
		a          Attr
		want       error
		says       string
	}{
		{"no such program", "/no/such", Attr{}, unix.ENOENT, "execve"},
		{"no program", "/etc/passwd", Attr{}, unix.EACCES, "execve"},
		{"no terminal", "/proc/self/exe", Attr{Ctty: true}, unix.ENOTTY, "controlling terminal"},
		{"not a user namespace", "/proc/self/exe", Attr{UserNS: 2}, unix.EINVAL, "enter the user namespace"},
		{"maps that cannot be written", "/proc/self/exe", Attr{Prepare: func(int) error { return refused }}, refused, "refused"},
	} {
		_, _, err := start(t, c.path, &c.a)
		if !errors.Is(err, c.want) || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}
