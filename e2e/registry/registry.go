// Package registry runs a real registry, Debian's docker-registry, on a free
// loopback port, and pushes images to it.
package registry

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"

	"github.com/opencontainers/go-digest"
)

// Options of Start. The zero value is an open registry.
type Options struct {
	// Htpasswd, if not empty, is the content of the password file (bcrypt
	// entries) without which nothing is served.
	Htpasswd string
}

// Registry is a running registry. Stop it.
type Registry struct {
	// Addr is where it listens, "127.0.0.1:PORT".
	Addr string
	// User and Password, if set, are sent along by Push.
	User, Password string

	data string // the root of its storage
	cmd  *exec.Cmd
	done chan error
}

// Start runs a registry that keeps its data and configuration in dir, which
// must exist. It returns when the registry accepts connections.
func Start(ctx context.Context, dir string, o Options) (*Registry, error) {
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		return nil, fmt.Errorf("%w: run e2e/setup.sh", err)
	}
	r := &Registry{data: filepath.Join(dir, "data"), done: make(chan error, 1)}
	config := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(config, []byte(r.config(dir, o)), 0o600); err != nil {
		return nil, err
	}
	if o.Htpasswd != "" {
		if err := os.WriteFile(filepath.Join(dir, "htpasswd"), []byte(o.Htpasswd), 0o600); err != nil {
			return nil, err
		}
	}

	r.cmd = exec.Command(program, "serve", config)
	r.cmd.Dir = dir
	r.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "OTEL_TRACES_EXPORTER=none"}
	// Ctrl-C is for us to handle, and the registry does not outlive us. (The death
	// signal is tied to the thread that starts it; Go keeps its threads.)
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	log, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	r.cmd.Stdout, r.cmd.Stderr = w, w
	if err := r.cmd.Start(); err != nil {
		return nil, errors.Join(err, log.Close(), w.Close())
	}
	w.Close()
	listening := make(chan string, 1)
	go func() {
		defer log.Close()
		follow(log, listening)
		r.done <- r.cmd.Wait()
	}()
	select {
	case addr := <-listening:
		if addr != "" {
			r.Addr = addr
			return r, nil
		}
		return nil, fmt.Errorf("docker-registry ended: %w", <-r.done)
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), r.Stop())
	}
}

// BlobPath is where the registry keeps a blob, for tests that damage it.
func (r *Registry) BlobPath(d digest.Digest) string {
	hex := d.Encoded()
	return filepath.Join(r.data, "docker/registry/v2/blobs/sha256", hex[:2], hex, "data")
}

// Stop ends the registry and waits until it is gone.
func (r *Registry) Stop() error {
	if err := r.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-r.done // its exit status is that of the signal
	return nil
}

// Port 0 lets the kernel choose; the log tells what it chose.
func (r *Registry) config(dir string, o Options) string {
	c := fmt.Sprintf(`version: 0.1
log: {level: info, formatter: text, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: %q}
  delete: {enabled: true}
http: {addr: "127.0.0.1:0", secret: e2e}
`, r.data)
	if o.Htpasswd != "" {
		c += fmt.Sprintf("auth: {htpasswd: {realm: e2e, path: %q}}\n", filepath.Join(dir, "htpasswd"))
	}
	return c
}

var listeningOn = regexp.MustCompile(`listening on (127\.0\.0\.1:[0-9]+)`)

// follow reads the log to its end and reports the address that it names, or ""
// where it ends without.
func follow(log io.Reader, listening chan<- string) {
	defer close(listening)
	found := false
	for s := bufio.NewScanner(log); s.Scan(); {
		if m := listeningOn.FindStringSubmatch(s.Text()); m != nil && !found {
			listening <- m[1]
			found = true
		}
	}
	_, _ = io.Copy(io.Discard, log) // after a line too long to scan: the registry must not block
}
