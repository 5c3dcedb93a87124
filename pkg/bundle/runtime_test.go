package bundle

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestRuntimesRunTheBundleAsItIs gives bundles to the runtimes that are installed
// and asks the process inside what it sees.
func TestRuntimesRunTheBundleAsItIs(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIP: the runtimes need root")
	}
	probe := filepath.Join(t.TempDir(), "probe")
	build := exec.Command("go", "build", "-o", probe, "./testdata/probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const caps = "00000000a80425fb" // docker's fourteen
	confined := []string{
		"pid 1", "CapBnd " + caps, "CapInh 0000000000000000", "CapAmb 0000000000000000", "NoNewPrivs 0", "Seccomp 2",
		"mount /proc proc", "mount /dev tmpfs", "mount /dev/pts devpts", "mount /dev/mqueue mqueue", "mount /dev/shm tmpfs", "mount /sys sysfs",
		"cgroups read-only true", "write /sys/x false", "write /proc/sys/kernel/x false", "write /proc/sysrq-trigger false", "write /dev/shm/x true",
		"read /proc/kcore false", "read /proc/interrupts false", "read /proc/keys false",
		"unshare operation not permitted", "mknod disk false", "null true pts true",
	}
	mapped := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	nobody := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 65534, Size: 1}}
	for _, c := range []struct {
		claim string
		image ocispec.ImageConfig
		o     Options
		want  []string
	}{
		{"root, in a directory that is not there", ocispec.ImageConfig{Entrypoint: []string{"/probe"}, Cmd: []string{"a b", ""}, WorkingDir: "/made/up", Env: []string{"X=y=z"}}, Options{Wishes: Wishes{Hostname: "box"}}, []string{
			"args /probe|a b|", "cwd /made/up", "hostname box", "ids 0 0 [0]", "env HOME=/root|HOSTNAME=box|PATH=" + defaultPath + "|X=y=z",
			"CapEff " + caps, "CapPrm " + caps, "interfaces lo", "listen 80 true", "write /x true",
		}},
		{"a user with groups, found by PATH", ocispec.ImageConfig{Cmd: []string{"probe"}, User: "nginx", Env: []string{"PATH=/bin:/"}}, Options{}, []string{
			"cwd /", "hostname peel", "ids 101 101 [33 101]", "env HOME=/var/cache/nginx|HOSTNAME=peel|PATH=/bin:/",
			"CapEff 0000000000000000", "CapPrm 0000000000000000", "interfaces lo", "listen 80 true", "write /x false",
		}},
		{"a user namespace", ocispec.ImageConfig{Cmd: []string{"/probe"}}, Options{UIDMappings: mapped, GIDMappings: mapped}, []string{
			"ids 0 0 [0]", "CapEff " + caps, "interfaces lo", "listen 80 true", "write /x true",
		}},
		{"a user's own ids", ocispec.ImageConfig{Cmd: []string{"/probe"}}, Options{UIDMappings: nobody, GIDMappings: nobody, Unprivileged: true}, []string{
			"ids 0 0 []", "CapEff " + caps, "interfaces lo", "listen 80 true", "write /x true",
		}},
		{"a user's own ids and the host's network", ocispec.ImageConfig{Cmd: []string{"/probe"}}, Options{UIDMappings: nobody, GIDMappings: nobody, Unprivileged: true, Wishes: Wishes{HostNetwork: true}}, []string{
			"ids 0 0 []", "interfaces " + hostInterfaces(t),
		}},
		{"the host's network", ocispec.ImageConfig{Cmd: []string{"/probe"}}, Options{Wishes: Wishes{HostNetwork: true}}, []string{"ids 0 0 [0]", "interfaces " + hostInterfaces(t)}},
	} {
		for _, runtime := range []string{"runc", "crun"} {
			t.Run(runtime+" "+c.claim, func(t *testing.T) {
				if _, err := exec.LookPath(runtime); err != nil {
					t.Skip("SKIP: no " + runtime)
				}
				dir := makeBundle(t, probe, c.image, c.o)
				out := runBundle(t, runtime, dir, c.o.Unprivileged)
				lines := strings.Split(out, "\n")
				for _, want := range slices.Concat(confined, c.want) {
					if !slices.Contains(lines, want) {
						t.Errorf("no line %q", want)
					}
				}
				if t.Failed() {
					t.Log(out)
				}
			})
		}
	}
}

// makeBundle lays out a bundle with the probe as its only program.
func makeBundle(t *testing.T, probe string, c ocispec.ImageConfig, o Options) string {
	t.Helper()
	root := rootfs(t)
	program, err := os.ReadFile(probe)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root.Name(), "probe"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	bundle, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer bundle.Close()
	if err := Write(bundle, root, ocispec.Image{Config: c}, o); err != nil {
		t.Fatal(err)
	}
	// A mapped root must get there, and be able to make what is to be mounted on.
	if len(o.UIDMappings) > 0 {
		for p := root.Name(); p != os.TempDir() && p != "/"; p = filepath.Dir(p) {
			if err := os.Chmod(p, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for p := dir; p != os.TempDir() && p != "/"; p = filepath.Dir(p) {
			if err := os.Chmod(p, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		err := filepath.Walk(root.Name(), func(path string, _ os.FileInfo, err error) error {
			return errors.Join(err, os.Lchown(path, int(o.UIDMappings[0].HostID), int(o.GIDMappings[0].HostID)))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(root.Name(), filepath.Join(dir, "rootfs")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// runBundle runs a bundle and returns what it prints.
func runBundle(t *testing.T, runtime, dir string, asNobody bool) string {
	t.Helper()
	state := filepath.Join(dir, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	id := fmt.Sprintf("peel-bundle-%d-%s-%s", os.Getpid(), filepath.Base(filepath.Dir(dir)), filepath.Base(dir))
	args := []string{runtime, "--root", state, "run", "--bundle", dir, id}
	if asNobody {
		if err := os.Chown(state, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		become := []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}
		if out, err := run(append(become, "unshare", "--user", "true")); err != nil {
			t.Skipf("SKIP: users may not make user namespaces: %v: %s", err, out)
		}
		args = append(become, args...)
	}
	out, err := run(args)
	if err != nil && strings.Contains(out, "hybrid mode") {
		t.Log("crun does not like this host's cgroups: without the second hierarchy, then")
		out, err = run(append([]string{"unshare", "--mount", "--propagation", "private", "sh", "-c", `umount /sys/fs/cgroup/unified && exec "$@"`, "sh"}, args...))
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return out
}

func run(args []string) (string, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR=/nonexistent")
	cmd.Stdin = strings.NewReader("") // crun gives its streams away, also the host's /dev/null
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func hostInterfaces(t *testing.T) string {
	t.Helper()
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, i := range interfaces {
		names = append(names, i.Name)
	}
	return strings.Join(names, " ")
}
