package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// changed makes a container of nginx that has changed its files in every way.
func changed(t *testing.T, c cli) {
	t.Helper()
	need(t, "tar")
	const script = `set -e
cd /srv
echo new > file; ln file second; ln -s file link; mkfifo fifo; mknod null c 1 3
mkdir -m 1777 dir; touch -d @1000000000.123456789 dir/old; chown 1000:3000000 dir/old; chmod 4711 file
touch "$(printf 'n%.0s' $(seq 200))" "$(printf 'caf\303\251 \377')"
truncate -s 8M sparse; echo end >> sparse
rm /etc/nginx/nginx.conf
rm -r /usr/share/nginx/html; mkdir /usr/share/nginx/html; echo again > /usr/share/nginx/html/again
rm -r /usr/share/doc
rm /etc/motd; mkdir /etc/motd; touch /etc/motd/file
rm -r /var/cache/apt; touch /var/cache/apt
mv /etc/debian_version /etc/version; chmod 600 /etc/passwd; echo x >> /etc/hostname.d || true
touch /.wh.evil
`
	c.ok(t, "run", "--name", "c", published(t, "nginx"), "sh", "-c", script)
}

// What becomes of a container in an image is the tree that its archive has, for all
// who read either.
func TestCommittedContainerComesBack(t *testing.T) {
	need(t, "skopeo")
	dir, err := os.MkdirTemp("", "commit-") // podman makes a name of it, which is in lower case
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := peel(t, dir)
	changed(t, p)
	archive := filepath.Join(dir, "c.tar")
	p.ok(t, "export", "-o", archive, "c")
	from := filepath.Join(dir, "tree")
	if err := os.Mkdir(from, 0o755); err != nil {
		t.Fatal(err)
	}
	want := list(t, untar(t, archive, from))
	delete(want, ".")
	delete(want, ".wh.evil")  // which a layer cannot say
	delete(want, "etc/hosts") // only made to mount something on, and so no change
	var f facts
	for _, compression := range []string{"none", "gzip", "zstd"} {
		layout := filepath.Join(dir, compression)
		r := p.ok(t, "export", "--to", "oci:"+layout+":latest", "--compression", compression, "c")
		if !strings.Contains(r.stderr, `".wh.evil": left out`) || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("warned %q", r.stderr)
		}
		if compression == "none" {
			f = append(factsOf(t, image(t, "nginx-plain")), factsOfTar(t, topLayer(t, layout)))
		}
		for _, back := range []struct {
			by   string
			tree func(t *testing.T, layout, dir string) string
		}{
			{"peel", peelLayout},
			{"umoci", func(t *testing.T, layout, dir string) string {
				output(t, tool(t, "umoci"), "unpack", "--image", layout+":latest", filepath.Join(dir, "bundle"))
				return filepath.Join(dir, "bundle", "rootfs")
			}},
			{"skopeo, umoci", func(t *testing.T, layout, dir string) string {
				output(t, "skopeo", "copy", "-q", "oci:"+layout+":latest", "oci:"+dir+"/copy:x")
				output(t, tool(t, "umoci"), "unpack", "--image", dir+"/copy:x", filepath.Join(dir, "bundle"))
				return filepath.Join(dir, "bundle", "rootfs")
			}},
			{"podman", func(t *testing.T, layout, dir string) string {
				need(t, "podman")
				podman := podmanIn(t, dir)
				id := strings.TrimSpace(podman("pull", "-q", "oci:"+layout+":latest"))
				return strings.TrimSpace(podman("image", "mount", id))
			}},
		} {
			if compression != "gzip" && back.by != "peel" && back.by != "skopeo, umoci" {
				continue // it takes its time
			}
			t.Run(compression+"/"+back.by, func(t *testing.T) {
				got := list(t, back.tree(t, layout, t.TempDir()))
				delete(got, ".")
				compareExplained(t, back.by, f, want, got)
			})
		}
	}
}

// topLayer is the blob of the topmost layer of a layout's image.
func topLayer(t *testing.T, layout string) string {
	t.Helper()
	var m ocispec.Manifest
	if err := json.Unmarshal([]byte(output(t, "skopeo", "inspect", "--raw", "oci:"+layout+":latest")), &m); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(layout, "blobs/sha256", m.Layers[len(m.Layers)-1].Digest.Encoded())
}

// peelLayout unpacks a layout that has become a store's.
func peelLayout(t *testing.T, layout, dir string) string {
	p := peel(t, dir)
	const name = "docker.io/library/c:latest"
	if err := os.Mkdir(p.root, 0o700); err != nil {
		t.Fatal(err)
	}
	output(t, "skopeo", "copy", "-q", "oci:"+layout+":latest", "oci:"+p.root+"/images:"+name)
	rootfs := filepath.Join(dir, "rootfs")
	p.ok(t, "unpack", "-q", "--pull", "never", "--rootfs", name, rootfs)
	return rootfs
}

// An image comes out of the store as it has come in, and as a tar without being
// unpacked.
func TestExportedImageIsTheImage(t *testing.T) {
	need(t, "skopeo")
	for _, name := range []string{"odd", "nginx", "nginx-docker", "big"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			ref := published(t, name)
			rootfs := peelRootfs(t, ref, dir)
			p := peel(t, dir)
			p.ok(t, "export", "-o", dir+"/image.tar", ref)
			from := filepath.Join(dir, "tree")
			if err := os.Mkdir(from, 0o755); err != nil {
				t.Fatal(err)
			}
			want, got := list(t, rootfs), list(t, untar(t, dir+"/image.tar", from))
			delete(want, ".")
			delete(got, ".")
			compareExplained(t, "GNU tar", nil, want, got)

			d := strings.TrimSpace(p.ok(t, "export", "--to", "oci:"+dir+"/layout:a", ref).stdout)
			raw := output(t, "skopeo", "inspect", "--raw", "oci:"+dir+"/layout:a")
			if got := digest.FromString(raw).String(); got != d {
				t.Errorf("the manifest is %s, peel said %s", got, d)
			}
			p.ok(t, "export", "--to", "oci-archive:"+dir+"/image.oci.tar:a", ref)
			if again := output(t, "skopeo", "inspect", "--raw", "oci-archive:"+dir+"/image.oci.tar:a"); again != raw {
				t.Error("the archive has another manifest")
			}
			output(t, "skopeo", "copy", "-q", "oci-archive:"+dir+"/image.oci.tar:a", "dir:"+dir+"/dir") // checks all digests
		})
	}
}

// Whoever is killed leaves a layout as it was, and the next makes it whole.
func TestKilledCommitLeavesTheLayoutWhole(t *testing.T) {
	dir := t.TempDir()
	p := peel(t, dir)
	changed(t, p)
	layout := filepath.Join(dir, "layout")
	killed := 0
	for tag, after := 'a', time.Duration(0); ; after += 2 * time.Millisecond {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		err := p.command(ctx, "export", "--to", "oci:"+layout+":"+string(tag), "c").Run()
		cancel()
		tags := checkLayout(t, layout)
		if err != nil {
			killed++
			if len(tags) < int(tag-'a') {
				t.Fatalf("killed after %v, the layout has lost tags: %v", after, tags)
			}
			continue
		}
		if len(tags) != int(tag-'a')+1 {
			t.Fatalf("tags %v", tags)
		}
		// Once more, into a layout that is there.
		if tag++; tag > 'c' {
			break
		}
		after = 0
	}
	if killed < 3 {
		t.Errorf("only %d were killed", killed)
	}
	for _, in := range []string{dir, layout} {
		if left, _ := filepath.Glob(filepath.Join(in, ".peel-*")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

// checkLayout checks every blob that index.json leads to, and returns the tags. No
// layout has none.
func checkLayout(t *testing.T, layout string) (tags []string) {
	t.Helper()
	var index ocispec.Index
	b, err := os.ReadFile(filepath.Join(layout, "index.json"))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(layout); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("half a layout: %v", err)
		}
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	read := func(d digest.Digest, v any) {
		b, err := os.ReadFile(filepath.Join(layout, "blobs/sha256", d.Encoded()))
		if err != nil || digest.FromBytes(b) != d {
			t.Fatalf("blob %s: %v", d, err)
		}
		if v != nil {
			if err := json.Unmarshal(b, v); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := json.Unmarshal(b, &index); err != nil {
		t.Fatal(err)
	}
	seen := map[digest.Digest]bool{}
	for _, d := range index.Manifests {
		tags = append(tags, d.Annotations[ocispec.AnnotationRefName])
		var m ocispec.Manifest
		read(d.Digest, &m)
		for _, l := range append(m.Layers, m.Config) {
			if !seen[l.Digest] {
				seen[l.Digest] = true
				read(l.Digest, nil)
			}
		}
	}
	return tags
}
