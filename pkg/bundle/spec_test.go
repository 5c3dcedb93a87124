package bundle

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
)

var update = flag.Bool("update", false, "write testdata/*.golden.json anew")

// rootfs makes a root with users nginx (101, also in group 33) and root.
func rootfs(t *testing.T) *os.File {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnginx:x:101:101::/var/cache/nginx:/bin/false\n",
		"etc/group":  "root:x:0:root\nwww:x:33:nginx\nnginx:x:101:\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func mustSpec(t *testing.T, img ocispec.Image, o Options) *specs.Spec {
	t.Helper()
	s, err := Spec(img, rootfs(t), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestConfigOfAWebServer compares the whole of a config.json with the one kept, but
// for what depends on the host: the seccomp profile, for which other tests look, and
// processors' thermal counters.
func TestConfigOfAWebServer(t *testing.T) {
	data, err := os.ReadFile("testdata/nginx.image.json")
	if err != nil {
		t.Fatal(err)
	}
	var img ocispec.Image
	if err := json.Unmarshal(data, &img); err != nil {
		t.Fatal(err)
	}
	s := mustSpec(t, img, Options{})
	s.Linux.Seccomp = nil
	s.Linux.MaskedPaths = slices.DeleteFunc(s.Linux.MaskedPaths, func(p string) bool { return strings.HasSuffix(p, "/thermal_throttle") })
	got, err := encode(s)
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/nginx.config.golden.json"
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("config.json is not as in %s (-update writes it anew):\n%s", golden, got)
	}
}

func TestWriteDoesNotReplaceAConfig(t *testing.T) {
	root := rootfs(t)
	img := ocispec.Image{Config: ocispec.ImageConfig{User: "nginx"}}
	if err := Write(root, root, img, Options{}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(root.Name(), "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var s specs.Spec
	if err := json.Unmarshal(data, &s); err != nil || s.Process.User.UID != 101 || s.Root.Path != "rootfs" {
		t.Errorf("%+v, %v", s, err)
	}
	if err := Write(root, root, img, Options{}); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
}

func TestArgs(t *testing.T) {
	for _, c := range []struct {
		claim           string
		entrypoint, cmd string
		o               Options
		want            string
	}{
		{"entrypoint, then cmd", "/entry a", "b c", Options{}, "/entry a b c"},
		{"cmd alone", "", "sh", Options{}, "sh"},
		{"another cmd keeps the entrypoint", "/entry", "b", Options{Wishes: Wishes{Args: []string{"x"}}}, "/entry x"},
		{"another entrypoint drops the image's cmd", "/entry", "b", Options{Entrypoint: []string{"x"}}, "x"},
		{"but not the caller's", "/entry", "b", Options{Entrypoint: []string{"x"}, Wishes: Wishes{Args: []string{"y"}}}, "x y"},
		{"nothing to run", "", "", Options{}, ""},
	} {
		t.Run(c.claim, func(t *testing.T) {
			img := ocispec.Image{Config: ocispec.ImageConfig{Entrypoint: strings.Fields(c.entrypoint), Cmd: strings.Fields(c.cmd)}}
			if got := strings.Join(mustSpec(t, img, c.o).Process.Args, " "); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestEnv(t *testing.T) {
	const path = "PATH=" + defaultPath
	for _, c := range []struct {
		claim, user string
		image       []string
		o           Options
		want        []string
	}{
		{"docker's defaults", "", nil, Options{}, []string{path, "HOSTNAME=peel", "HOME=/root"}},
		{"HOME is the user's", "nginx", nil, Options{}, []string{path, "HOSTNAME=peel", "HOME=/var/cache/nginx"}},
		{"HOME of a user without an entry", "4711", nil, Options{}, []string{path, "HOSTNAME=peel", "HOME=/"}},
		{"the image's go over the defaults, in their place", "", []string{"A=1", "PATH=/bin", "HOME=/h"}, Options{}, []string{"PATH=/bin", "HOSTNAME=peel", "A=1", "HOME=/h"}},
		{"what no program can be given is left out", "", []string{"A=x\x00y", "=x", "\x00", "B=2"}, Options{}, []string{path, "HOSTNAME=peel", "B=2", "HOME=/root"}},
		{"the caller's go over the image's", "", []string{"A=1", "B=2"}, Options{Wishes: Wishes{Env: []string{"B=3", "A", "C="}}}, []string{path, "HOSTNAME=peel", "B=3", "C=", "HOME=/root"}},
		{"a name without a value takes the default away", "", []string{"PATH"}, Options{}, []string{"HOSTNAME=peel", "HOME=/root"}},
		{"values may hold anything", "", []string{"A=b=c\nd"}, Options{}, []string{path, "HOSTNAME=peel", "A=b=c\nd", "HOME=/root"}},
		{"a terminal has a type", "", nil, Options{Wishes: Wishes{Terminal: true, Hostname: "box"}}, []string{path, "HOSTNAME=box", "TERM=xterm", "HOME=/root"}},
	} {
		t.Run(c.claim, func(t *testing.T) {
			img := ocispec.Image{Config: ocispec.ImageConfig{User: c.user, Env: c.image}}
			s := mustSpec(t, img, c.o)
			if !slices.Equal(s.Process.Env, c.want) {
				t.Errorf("%q, want %q", s.Process.Env, c.want)
			}
			if s.Process.Terminal != c.o.Terminal || "HOSTNAME="+s.Hostname != c.want[slices.IndexFunc(c.want, func(s string) bool { return strings.HasPrefix(s, "HOSTNAME=") })] {
				t.Errorf("terminal %v, hostname %s", s.Process.Terminal, s.Hostname)
			}
		})
	}
}

func TestCwdIsAbsolute(t *testing.T) {
	for dir, want := range map[string]string{"": "/", "/": "/", "/srv/app/": "/srv/app/", "app": "/app", "../x": "/x"} {
		img := ocispec.Image{Config: ocispec.ImageConfig{WorkingDir: dir}}
		if got := mustSpec(t, img, Options{}).Process.Cwd; got != want {
			t.Errorf("%q is %q, want %q", dir, got, want)
		}
	}
}

func TestUsersCapabilities(t *testing.T) {
	for _, c := range []struct {
		user      string
		effective int
	}{{"", 14}, {"0:33", 14}, {"nginx", 0}, {"4711", 0}} {
		got := mustSpec(t, ocispec.Image{Config: ocispec.ImageConfig{User: c.user}}, Options{}).Process.Capabilities
		if len(got.Bounding) != 14 || len(got.Effective) != c.effective || len(got.Permitted) != c.effective || len(got.Inheritable)+len(got.Ambient) != 0 {
			t.Errorf("%q: %+v", c.user, got)
		}
	}
}

func TestAHostileUserIsRefused(t *testing.T) {
	for _, user := range []string{"nobody", "4294967296", "-1", "1:99999999999", "0x0", "+0"} {
		s, err := Spec(ocispec.Image{Config: ocispec.ImageConfig{User: user}}, rootfs(t), Options{})
		if err == nil {
			t.Errorf("%q is %+v", user, s.Process.User)
		}
	}
}

func TestAnnotations(t *testing.T) {
	var warnings []string
	img := ocispec.Image{
		Author:   "Jo",
		Platform: ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8", OSFeatures: []string{"a", "b"}},
		Config: ocispec.ImageConfig{
			StopSignal:   "SIGQUIT",
			ExposedPorts: map[string]struct{}{"80/tcp": {}, "443/tcp": {}},
			Labels: map[string]string{
				"maintainer": "x", "org.opencontainers.image.author": "over",
				"": "x", "run.oci.hooks.stdout": "/etc/cron.d/x", "org.systemd.property.ExecStart": "x", "org.criu.config": "/x",
				"cdi.k8s.io/x": "vendor.com/gpu=all",
			},
		},
	}
	spec := mustSpec(t, img, Options{Warn: func(s string) { warnings = append(warnings, s) }})
	if spec.Hooks != nil { // CVE-2026-53488
		t.Errorf("an image has hooks: %+v", spec.Hooks)
	}
	got := spec.Annotations
	want := map[string]string{
		"org.opencontainers.image.os": "linux", "org.opencontainers.image.architecture": "arm64", "org.opencontainers.image.variant": "v8",
		"org.opencontainers.image.os.features": "a,b", "org.opencontainers.image.author": "over", "org.opencontainers.image.stopSignal": "SIGQUIT",
		"org.opencontainers.image.exposedPorts": "443/tcp,80/tcp", "maintainer": "x",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	wantWarnings := []string{
		`left out of the annotations, as it has no name: label ""`,
		`left out of the annotations, as it would steer the runtime: label "cdi.k8s.io/x", "org.criu.config", "org.systemd.property.ExecStart" and 1 more`,
	}
	if !slices.Equal(warnings, wantWarnings) {
		t.Errorf("%q, want %q", warnings, wantWarnings)
	}
}

func TestWarningsAreShortWhateverTheImageHolds(t *testing.T) {
	img := ocispec.Image{Config: ocispec.ImageConfig{Labels: map[string]string{}, Env: []string{"=x"}}}
	for i := range 1000 {
		img.Config.Labels[fmt.Sprintf("run.oci.%d.\x1b%s", i, strings.Repeat("x", 10000))] = ""
	}
	var all string
	mustSpec(t, img, Options{Warn: func(s string) { all += s + "\n" }})
	if len(all) > 1000 || strings.Count(all, "\n") != 2 || strings.Contains(all, "\x1b") {
		t.Errorf("%d bytes: %.300q", len(all), all)
	}
}

func TestTheHostsNetwork(t *testing.T) {
	s := mustSpec(t, ocispec.Image{}, Options{Wishes: Wishes{HostNetwork: true}})
	if slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace }) {
		t.Error("still has a network namespace")
	}
	if len(s.Linux.Sysctl) != 0 {
		t.Errorf("would set the host's %v", s.Linux.Sysctl)
	}
}

// TestSeccompIsDockers looks for what tells docker's profile from others.
func TestSeccompIsDockers(t *testing.T) {
	s := mustSpec(t, ocispec.Image{}, Options{}).Linux.Seccomp
	if s == nil || s.DefaultAction != specs.ActErrno || len(s.Architectures) == 0 {
		t.Fatalf("%+v", s)
	}
	allowed := map[string]bool{}
	for _, call := range s.Syscalls {
		for _, name := range call.Names {
			if call.Action == specs.ActAllow && len(call.Args) == 0 {
				allowed[name] = true
			}
		}
	}
	for name, want := range map[string]bool{
		"openat": true, "execve": true, "chroot": true, // a default capability allows it
		"mount": false, "unshare": false, "bpf": false, "keyctl": false, "init_module": false, "kexec_load": false,
		"io_uring_setup": false, "open_by_handle_at": false, "clone": false, // by its arguments only
	} {
		if allowed[name] != want {
			t.Errorf("%s: allowed %v", name, allowed[name])
		}
	}
}
