package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// peer makes the rootfs of a reference in its own way, below dir, and returns
// where it lies.
type peer struct {
	name   string
	needs  []string
	rootfs func(t *testing.T, ref, dir string) string
}

func peers() []peer {
	return []peer{
		{"umoci", []string{"skopeo"}, umociRootfs},
		{"podman", []string{"podman"}, podmanRootfs},
		{"crane", []string{"tar"}, craneRootfs},
	}
}

// umoci unpacks what skopeo has copied into a layout.
func umociRootfs(t *testing.T, ref, dir string) string {
	layout := filepath.Join(dir, "layout")
	output(t, "skopeo", "copy", "-q", "--src-tls-verify=false", "docker://"+ref, "oci:"+layout+":latest")
	output(t, tool(t, "umoci"), "unpack", "--image", layout+":latest", filepath.Join(dir, "bundle"))
	return filepath.Join(dir, "bundle", "rootfs")
}

// podman mounts a pulled image with overlayfs.
func podmanRootfs(t *testing.T, ref, dir string) string {
	podman := podmanIn(t, dir)
	podman("pull", "-q", "--tls-verify=false", ref)
	return strings.TrimSpace(podman("image", "mount", ref))
}

// podmanIn returns podman with a storage below dir, and unmounts all that it
// mounts there.
func podmanIn(t *testing.T, dir string) func(args ...string) string {
	podman := podmanCommand(t, dir)
	return func(args ...string) string {
		cmd := podman(args...)
		return output(t, cmd.Args[0], cmd.Args[1:]...)
	}
}

// podmanCommand is podmanIn for one who looks at failures himself.
func podmanCommand(t *testing.T, dir string) func(args ...string) *exec.Cmd {
	root := filepath.Join(dir, "storage")
	run, err := os.MkdirTemp("", "pod-") // podman allows it no more than 50 characters
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(run); err != nil {
			t.Error(err)
		}
		// What podman mounted, the image and its own storage directory.
		for _, m := range []string{filepath.Join(root, "overlay/*/merged"), filepath.Join(root, "overlay")} {
			mounts, _ := filepath.Glob(m)
			for _, path := range mounts {
				if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
					t.Errorf("unmount %s: %v", path, err)
				}
			}
		}
	})
	return func(args ...string) *exec.Cmd {
		return exec.CommandContext(t.Context(), "podman", append([]string{"--root", root, "--runroot", run, "--storage-driver", "overlay"}, args...)...)
	}
}

// crane writes the merged layers as one tar.
func craneRootfs(t *testing.T, ref, dir string) string {
	rootfs := filepath.Join(dir, "rootfs")
	if err := os.Mkdir(rootfs, 0o755); err != nil {
		t.Fatal(err)
	}
	export := exec.CommandContext(t.Context(), tool(t, "crane"), "export", "--platform", host(), ref, "-")
	extract := exec.CommandContext(t.Context(), "tar", "-x", "-p", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C", rootfs)
	pipe, err := export.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var exportSays, extractSays strings.Builder
	export.Stderr, extract.Stderr, extract.Stdin = &exportSays, &extractSays, pipe
	if err := errors.Join(export.Start(), extract.Start()); err != nil {
		t.Fatal(err)
	}
	// tar first: it reads to the end, and Wait would close the pipe.
	if err := errors.Join(extract.Wait(), export.Wait()); err != nil {
		t.Fatalf("crane export | tar -x: %v\n%s%s", err, exportSays.String(), extractSays.String())
	}
	return rootfs
}
