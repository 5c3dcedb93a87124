package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The bundle runs as it is: nginx answers in the container's own network and
// ends by the signal that the image asks for.
func TestRuntimesRunTheBundle(t *testing.T) {
	ref := published(t, "nginx")
	for _, runtime := range []string{"runc", "crun"} {
		t.Run(runtime, func(t *testing.T) {
			need(t, runtime, "nsenter")
			dir := t.TempDir()
			bundle := filepath.Join(dir, "nginx")
			peel(t, dir).ok(t, "unpack", "-q", ref, bundle)

			id, state, pidFile := "peel-e2e-"+filepath.Base(dir), filepath.Join(dir, "state"), filepath.Join(dir, "pid")
			runtime := append(runtimeCommand(t, runtime), "--root", state)
			do := func(args ...string) *exec.Cmd {
				args = append(runtime[:len(runtime):len(runtime)], args...)
				return exec.Command(args[0], args[1:]...)
			}
			var log bytes.Buffer
			cmd := do("run", "--bundle", bundle, "--pid-file", pidFile, id)
			cmd.Stdout, cmd.Stderr = &log, &log
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			t.Cleanup(func() {
				// Nothing is left of a container that has ended; one that has not must go.
				_ = do("delete", "--force", id).Run()
			})

			page := fetchInside(t, pidFile, ended, &log)
			if !strings.Contains(page, "Welcome to nginx!") {
				t.Errorf("nginx serves %q", page)
			}
			if out, err := do("exec", id, "sh", "-c", "grep -h ^Uid: /proc/[0-9]*/status").CombinedOutput(); err != nil || !bytes.Contains(out, []byte("Uid:\t101\t101")) {
				t.Errorf("no worker runs as the user nginx: %v\n%s", err, out)
			}
			if out, err := do("kill", id, "QUIT").CombinedOutput(); err != nil {
				t.Fatalf("kill: %v: %s", err, out)
			}
			if err := <-ended; err != nil {
				t.Errorf("after SIGQUIT: %v\n%s", err, log.Bytes())
			}
			// Its own log is the container's standard output.
			if !strings.Contains(log.String(), "GET / HTTP/1.1") {
				t.Errorf("the access is not in the log:\n%s", log.Bytes())
			}
		})
	}
}

// runtimeCommand is how a runtime is started on this machine. crun refuses hosts
// that have both generations of control groups with controllers in each; there
// it gets to see the first alone.
func runtimeCommand(t *testing.T, name string) []string {
	controllers, err := os.ReadFile("/sys/fs/cgroup/unified/cgroup.controllers")
	if name != "crun" || err != nil || len(bytes.TrimSpace(controllers)) == 0 {
		return []string{name}
	}
	t.Log("crun gets to see control groups of the first generation only")
	return []string{"unshare", "--mount", "--propagation", "private", "sh", "-c", `umount /sys/fs/cgroup/unified && exec "$@"`, "sh", name}
}

// fetchInside asks the container's web server for its page. It tries until
// there is an answer or the container has ended: that it listens is nothing one
// could wait for from outside.
func fetchInside(t *testing.T, pidFile string, ended <-chan error, log *bytes.Buffer) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case err := <-ended:
			t.Fatalf("the container has ended: %v\n%s", err, log.Bytes())
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-again.C:
		}
		pid, err := os.ReadFile(pidFile)
		if err != nil || len(pid) == 0 {
			continue
		}
		cmd := exec.CommandContext(t.Context(), "nsenter", "--net=/proc/"+strings.TrimSpace(string(pid))+"/ns/net", self)
		cmd.Env = append(os.Environ(), getEnv+"=http://127.0.0.1/")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if page, err := cmd.Output(); err == nil {
			return string(page)
		}
	}
}
