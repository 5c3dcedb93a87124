// Package user runs tests once more as a user without privilege.
//
// The users are made up and in no file of the machine. One that has subordinate
// ids finds himself in /etc/passwd, /etc/subuid and /etc/subgid, because others are
// mounted over those in a mount namespace of his own.
package user

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"peel/internal/rawfork"
	"peel/internal/userns"
)

// Kind is what the user has.
type Kind string

const (
	// Plain has one id, and nothing else.
	Plain Kind = "plain"
	// Subordinate has 65536 more, which newuidmap gives him.
	Subordinate Kind = "subordinate"
	// Mapped is the latter as root of a user namespace with all of them.
	Mapped Kind = "mapped"
)

// ID is the user's and his group's id, and First his first subordinate one.
const (
	ID    = 54321
	First = 700000
	count = 65536
)

// stageEnv tells a process that it is a test begun once more, and as whom.
const stageEnv = "PEEL_TEST_USER"

// Inside is the kind of user that this process is; empty if it is none of this
// package's.
func Inside() Kind { return Kind(os.Getenv(stageEnv)) }

// Again runs the calling test once more as such a user, with these variables added
// to a small environment, and reports what it says. It returns true in that process.
// It skips what cannot be had.
func Again(t *testing.T, kind Kind, env ...string) bool {
	t.Helper()
	switch {
	case Inside() == kind && (kind == Mapped) == (os.Geteuid() == 0):
		return true
	case Inside() == kind && kind == Mapped:
		inNamespace(t)
		return false
	case os.Geteuid() != 0:
		t.Skip("SKIPPED: needs root, to become a user")
	}
	if kind != Plain {
		for _, need := range []string{"/usr/bin/newuidmap", "/usr/bin/newgidmap", "/etc/subuid", "/etc/subgid"} {
			if _, err := os.Stat(need); err != nil {
				t.Skipf("SKIPPED: needs subordinate ids (package uidmap): %v", err)
			}
		}
	}
	dir := home(t)
	exe := filepath.Join(dir, filepath.Base(os.Args[0]))
	if err := copyFile("/proc/self/exe", exe); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, testArgs(t)...)
	cmd.Dir = dir
	cmd.Env = []string{stageEnv + "=" + string(kind), "PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + filepath.Join(dir, "tmp"), "GORACE=" + os.Getenv("GORACE")}
	cmd.Env = append(cmd.Env, env...)
	for _, name := range []string{"PEEL_STACKS", "PEEL_SEED", "PEEL_KILLS"} {
		if v, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ID, Gid: ID}}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := rawfork.OnSpentThread(func() error {
		if kind != Plain {
			if err := enter(dir); err != nil {
				return err
			}
		}
		return cmd.Run()
	})
	report(t, out.Bytes(), err)
	return false
}

func testArgs(t *testing.T) []string {
	args := []string{"-test.run=^" + t.Name() + "$", "-test.v", "-test.count=1"}
	if testing.Short() {
		args = append(args, "-test.short")
	}
	return args
}

func report(t *testing.T, out []byte, err error) {
	t.Helper()
	switch {
	case err != nil || !bytes.Contains(out, []byte("--- PASS")) && !bytes.Contains(out, []byte("--- SKIP")):
		t.Errorf("as a user: %v\n%s", err, out)
	case bytes.Contains(out, []byte("--- SKIP")):
		t.Logf("%s", out)
	}
}

// home makes a directory that is the user's, and can be reached by him.
func home(t *testing.T) string {
	dir, err := os.MkdirTemp("", "peel-user-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, d := range []string{dir, filepath.Join(dir, "tmp")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(d, ID, ID); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o755)
}

// enter gives the calling thread a mount namespace in which the user has his ids.
func enter(dir string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mount namespace: %w", err)
	}
	ids := fmt.Sprintf("peel-test:%d:%d\n", First, count)
	for file, line := range map[string]string{
		"/etc/passwd": fmt.Sprintf("peel-test:x:%d:%d::%s:/bin/sh\n", ID, ID, dir), "/etc/subuid": ids, "/etc/subgid": ids,
	} {
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		over := filepath.Join(dir, filepath.Base(file))
		if err := os.WriteFile(over, append(b, line...), 0o644); err != nil {
			return err
		}
		if err := unix.Mount(over, file, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount over %s: %w", file, err)
		}
	}
	return nil
}

// inNamespace runs the test as root of a user namespace with all ids of the user.
func inNamespace(t *testing.T) {
	t.Helper()
	ids := userns.Own()
	if !ids.NeedsHelpers() {
		t.Fatalf("the user has no subordinate ids: %v", ids)
	}
	out, err := os.CreateTemp(t.TempDir(), "out")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	c, err := ids.Start(append([]string{os.Args[0]}, testArgs(t)...), os.Environ(), []*os.File{null, out, out})
	if err != nil {
		t.Skipf("SKIPPED: users cannot make user namespaces here: %v", err)
	}
	status, err := c.Wait()
	if err == nil && status.ExitStatus() != 0 {
		err = fmt.Errorf("exit status %d", status.ExitStatus())
	}
	said, readErr := os.ReadFile(out.Name())
	if readErr != nil {
		t.Fatal(readErr)
	}
	report(t, said, err)
}
