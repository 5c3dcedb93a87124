package e2e

import (
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"peel/e2e/registry"
)

// refuses runs a command that must fail with one line that has each of the
// texts, at most one more with a hint, and nothing on stdout.
func (c cli) refuses(t *testing.T, code int, texts []string, args ...string) {
	t.Helper()
	r := c.run(t, args...)
	if r.code != code || r.stdout != "" {
		t.Errorf("peel %s: exit code %d, want %d, and prints %q", strings.Join(args, " "), r.code, code, r.stdout)
	}
	var said []string
	for line := range strings.Lines(r.stderr) {
		if !strings.HasPrefix(line, "hint: ") {
			said = append(said, line)
		}
	}
	if len(said) != 1 || strings.Count(r.stderr, "\n") > 2 {
		t.Errorf("peel %s says more than one line:\n%s", strings.Join(args, " "), r.stderr)
	}
	for _, text := range texts {
		if !strings.Contains(r.stderr, text) {
			t.Errorf("peel %s does not speak of %q:\n%s", strings.Join(args, " "), text, r.stderr)
		}
	}
}

func TestWhatIsNotThereIsSaid(t *testing.T) {
	ref := published(t, "nginx")
	addr, _, _ := strings.Cut(ref, "/")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	l.Close()
	none := "@sha256:" + strings.Repeat("0", 64)
	for _, c := range []struct {
		claim string
		ref   string
		code  int
		texts []string
	}{
		{"a name that the registry does not have", addr + "/library/nothing:latest", 125, []string{"library/nothing", "hint: "}},
		{"a tag that the name does not have", addr + "/library/nginx:nothing", 125, []string{"nothing", "hint: "}},
		{"a digest that the name does not have", addr + "/library/nginx" + none, 125, []string{none[1:], "hint: "}},
		{"a registry that does not run", closed + "/library/nginx:latest", 125, []string{closed, "hint: "}},
		{"a name that no server has", "registry.invalid/nginx:latest", 125, []string{"registry.invalid", "hint: "}},
		{"a path", "./nginx", 2, []string{"./nginx", "path", "hint: "}},
		{"upper case", addr + "/library/Nginx", 2, []string{"Nginx"}},
	} {
		t.Run(c.claim, func(t *testing.T) {
			dir := t.TempDir()
			p := peel(t, dir)
			p.refuses(t, c.code, c.texts, "pull", c.ref)
			p.refuses(t, c.code, c.texts, "unpack", c.ref, filepath.Join(dir, "bundle"))
			if _, err := os.Lstat(filepath.Join(dir, "bundle")); err == nil {
				t.Error("the bundle is there")
			}
		})
	}
}

// Password "right" of user "me", hashed by bcrypt.
const htpasswd = "me:$2a$04$5S.N7QH07Jh7O00rDrheXO09OyPondgHVvinBj5QgktRA77Zx5Q/S\n"

func TestLoginIsAskedFor(t *testing.T) {
	need(t, "docker-registry")
	r, err := registry.Start(t.Context(), t.TempDir(), registry.Options{Htpasswd: htpasswd})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Stop(); err != nil {
			t.Error(err)
		}
	})
	r.User, r.Password = "me", "right"
	if _, err := r.Push(t.Context(), image(t, "multi"), "private/multi", "latest"); err != nil {
		t.Fatal(err)
	}
	ref := r.Addr + "/private/multi:latest"
	login := func(dir, password string) {
		auth := base64.StdEncoding.EncodeToString([]byte("me:" + password))
		config := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, r.Addr, auth)
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	dir := t.TempDir()
	p := peel(t, dir)
	p.env = []string{"DOCKER_CONFIG=" + dir, "HOME=" + dir, "XDG_RUNTIME_DIR=" + dir}
	p.refuses(t, 125, []string{r.Addr, "login"}, "pull", ref)
	login(dir, "wrong")
	p.refuses(t, 125, []string{r.Addr, "login"}, "pull", ref)
	login(dir, "right")
	p.ok(t, "pull", "-q", ref)
}

// The registry's own storage is damaged: what arrives is not what the manifest
// names.
func TestDamagedBlobsAreRefused(t *testing.T) {
	need(t, "docker-registry")
	for _, c := range []struct {
		claim  string
		damage func(path string) error
	}{
		{"one bit of a layer is another", func(path string) error {
			return edit(path, func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
		}},
		{"a layer is cut short", func(path string) error {
			return edit(path, func(b []byte) []byte { return b[:len(b)/2] })
		}},
		{"a layer has a byte more", func(path string) error {
			return edit(path, func(b []byte) []byte { return append(b, 0) })
		}},
		{"a layer is gone", os.Remove},
	} {
		t.Run(c.claim, func(t *testing.T) {
			r, err := registry.Start(t.Context(), t.TempDir(), registry.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := r.Stop(); err != nil {
					t.Error(err)
				}
			}()
			l := image(t, "odd")
			if _, err := r.Push(t.Context(), l, "damaged", "latest"); err != nil {
				t.Fatal(err)
			}
			layer := manifestOf(t, "odd").Layers[1]
			if err := c.damage(r.BlobPath(layer.Digest)); err != nil {
				t.Fatal(err)
			}

			dir := t.TempDir()
			p := peel(t, dir)
			ref := r.Addr + "/damaged:latest"
			p.refusesWhole(t, layer.Digest.Encoded()[:12], "pull", "-q", ref)
			p.refusesWhole(t, layer.Digest.Encoded()[:12], "unpack", "-q", ref, filepath.Join(dir, "bundle"))
			onlyThese(t, dir, "store")
		})
	}
}

// refusesWhole runs a command that must fail with 125, name what is wrong, and
// leave no image in the store.
func (c cli) refusesWhole(t *testing.T, what string, args ...string) {
	t.Helper()
	c.refuses(t, 125, []string{what}, args...)
	if out := c.ok(t, "images", "-q").stdout; out != "" {
		t.Errorf("after peel %s the store lists %q", strings.Join(args, " "), out)
	}
}

func edit(path string, change func([]byte) []byte) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, change(b), 0o644)
}

// A store on a full disk fails cleanly and goes on when there is room.
func TestFullDiskIsSaid(t *testing.T) {
	ref := published(t, "nginx")
	for _, c := range []struct {
		claim string
		args  func(dir string) []string
	}{
		{"pull", func(string) []string { return []string{"pull", "-q", ref} }},
		{"unpack", func(dir string) []string { return []string{"unpack", "-q", ref, filepath.Join(dir, "bundle")} }},
	} {
		t.Run(c.claim, func(t *testing.T) {
			dir := t.TempDir()
			if err := unix.Mount("small", dir, "tmpfs", 0, "size=8m"); err != nil {
				skip(t, "tmpfs mounts ("+err.Error()+")")
			}
			t.Cleanup(func() {
				if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
					t.Error(err)
				}
			})
			p := peel(t, dir)
			p.refuses(t, 125, []string{"hint: make room"}, c.args(dir)...)
			if out := p.ok(t, "images", "-q").stdout; out != "" {
				t.Errorf("the store lists %q", out)
			}
			onlyThese(t, dir, "store")
			if err := unix.Mount("small", dir, "tmpfs", unix.MS_REMOUNT, "size=800m"); err != nil {
				t.Fatal(err)
			}
			p.ok(t, c.args(dir)...)
		})
	}
}
