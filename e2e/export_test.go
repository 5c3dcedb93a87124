package e2e

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"peel/e2e/layout"
)

// What peel exports becomes the same tree again, whoever reads it.
func TestExportedTreeComesBack(t *testing.T) {
	image := func(name string) func(t *testing.T, dir string) string {
		return func(t *testing.T, dir string) string { return peelRootfs(t, published(t, name), dir) }
	}
	for _, from := range []struct {
		name   string
		rootfs func(t *testing.T, dir string) string
	}{{"odd", image("odd")}, {"nginx", image("nginx")}, {"rich", richTree}} {
		t.Run(from.name, func(t *testing.T) {
			need(t, "tar")
			dir := t.TempDir()
			rootfs := from.rootfs(t, dir)
			archive := filepath.Join(dir, "export.tar")
			peel(t, dir).ok(t, "export", "--rootfs", rootfs, "-o", archive)
			want := list(t, rootfs)
			f := facts{factsOfTar(t, archive)}
			for _, back := range []struct {
				by    string
				needs string
				tree  func(t *testing.T, archive, dir string) string
			}{
				{"GNU tar", "tar", untar},
				{"bsdtar", "bsdtar", bsduntar},
				{"peel", "docker-registry", unpackLayer},
				{"podman", "podman", podmanImport},
			} {
				t.Run(back.by, func(t *testing.T) {
					need(t, back.needs)
					got := list(t, back.tree(t, archive, t.TempDir()))
					// The root has no entry in the archive, as in docker's.
					delete(want, ".")
					delete(got, ".")
					compareExplained(t, back.by, f, want, got)
				})
			}
		})
	}
}

// richTree makes a tree of all that tar can say of a file.
func richTree(t *testing.T, dir string) string {
	t.Helper()
	root := filepath.Join(dir, "rich")
	must := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(root, name) }
	must(os.Mkdir(root, 0o755))
	for name, mode := range map[string]os.FileMode{
		"dir": 0o755, "dir/deep": 0o700, "tmp": 0o777 | os.ModeSticky, "sgid": 0o775 | os.ModeSetgid, "closed": 0, strings.Repeat("d", 150): 0o755,
		strings.Repeat("d", 150) + "/" + strings.Repeat("e", 250): 0o755, "caf\xc3\xa9": 0o755, "caf\xe9": 0o755,
	} {
		must(os.MkdirAll(at(name), 0o755), os.Chmod(at(name), mode))
	}
	long := strings.Repeat("d", 150) + "/" + strings.Repeat("e", 250) + "/" + strings.Repeat("f", 255)
	for name, content := range map[string]string{
		"empty": "", "file": "content\n", "dir/deep/file": "x", "su": "#!/bin/sh\n", long: "long\n", "closed/file": "c", "caf\xc3\xa9/\xe9": "e", "new\nline": "n",
		"block": strings.Repeat("b", 512), "large": strings.Repeat("0123456789abcdef", 1<<16), "*?[": "glob",
	} {
		must(os.WriteFile(at(name), []byte(content), 0o644))
	}
	must(
		os.Chmod(at("su"), 0o755|os.ModeSetuid|os.ModeSetgid), os.Chmod(at("closed/file"), 0),
		os.Link(at("file"), at("dir/second")), os.Link(at("file"), at("a-first")), os.Link(at(long), at("short")), os.Link(at("file"), at(long[:len(long)-5])),
		os.Symlink("/etc/shadow", at("absolute")), os.Symlink("../..", at("dir/up")), os.Symlink(strings.Repeat("t", 300), at("dangling")), os.Link(at("dangling"), at("dangling2")),
		unix.Mkfifo(at("fifo"), 0o600), unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))), unix.Mknod(at("disk"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 70000))),
		unix.Mknod(at("dir/fifo"), unix.S_IFIFO|0o644, 0), os.Link(at("disk"), at("disk2")),
	)
	for name, ids := range map[string][2]int{"file": {1000, 33}, "absolute": {7, 8}, "large": {2097152, 4294967294}, "dir/deep": {65534, 65534}, "null": {0, 6}} {
		must(os.Lchown(at(name), ids[0], ids[1]))
	}
	// posix_acl_xattr: version 2, then tag, permissions and id.
	acl := func(entries ...[3]uint32) string {
		b := binary.LittleEndian.AppendUint32(nil, 2)
		for _, e := range entries {
			b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
			b = binary.LittleEndian.AppendUint16(b, uint16(e[1]))
			b = binary.LittleEndian.AppendUint32(b, e[2])
		}
		return string(b)
	}
	const none = 1<<32 - 1
	list := acl([3]uint32{1, 6, none}, [3]uint32{2, 4, 1000}, [3]uint32{4, 4, none}, [3]uint32{8, 2, 33}, [3]uint32{16, 6, none}, [3]uint32{32, 4, none})
	for _, x := range [][3]string{
		{"file", "user.text", "value"}, {"file", "user.binary", "\x00\n=\xff"}, {"dir", "user.dir", "d"}, {"dir", "trusted.t", "t"}, {"empty", "user.empty", ""},
		{"su", "security.capability", "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"},
		{"absolute", "trusted.link", "l"}, {"null", "trusted.device", "d"}, {"large", "user.large", strings.Repeat("v", 3000)},
		{"block", "system.posix_acl_access", list}, {"dir/deep", "system.posix_acl_access", list}, {"dir/deep", "system.posix_acl_default", list},
	} {
		must(unix.Lsetxattr(at(x[0]), x[1], []byte(x[2]), 0))
	}
	sparse, err := os.Create(at("sparse"))
	must(err)
	_, err1 := sparse.WriteAt([]byte("middle"), 5<<20)
	_, err2 := sparse.WriteAt([]byte("late"), 9<<20+17)
	must(err1, err2, sparse.Truncate(12<<20+1), sparse.Close())
	holes, err := os.Create(at("holes"))
	must(err, holes.Truncate(3<<20), holes.Close())
	// Last, as making a file changes the time of its directory.
	times := []unix.Timespec{{Sec: 1e9, Nsec: 123456789}, {Sec: 1e9, Nsec: 1}, {Sec: 0, Nsec: 0}, {Sec: 1 << 33, Nsec: 5}, {Sec: 1e9}}
	n := 0
	must(filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		n++
		ts := times[n%len(times)]
		return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	}))
	return root
}

func bsduntar(t *testing.T, archive, dir string) string {
	t.Setenv("LC_ALL", "C.UTF-8")
	output(t, "bsdtar", "-x", "-p", "--numeric-owner", "--acls", "--xattrs", "-C", dir, "-f", archive)
	return dir
}

func untar(t *testing.T, archive, dir string) string {
	output(t, "tar", "-x", "-p", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C", dir, "-f", archive)
	return dir
}

// unpackLayer unpacks an image whose one layer is the archive.
func unpackLayer(t *testing.T, archive, dir string) string {
	l, err := layout.Create(filepath.Join(dir, "layout"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	layer, err := l.Add(ocispec.MediaTypeImageLayer, func(w io.Writer) error {
		_, err := io.Copy(w, f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	config := ocispec.Image{RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{layer.Digest}}}
	config.OS, config.Architecture, _ = strings.Cut(host(), "/")
	image, err := l.AddImage(config, []ocispec.Descriptor{layer})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.SetRoot(image); err != nil {
		t.Fatal(err)
	}
	r, err := shared.registry()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Push(t.Context(), l, "exported", "latest"); err != nil {
		t.Fatal(err)
	}
	return peelRootfs(t, r.Addr+"/exported:latest", dir)
}

func podmanImport(t *testing.T, archive, dir string) string {
	podman := podmanIn(t, dir)
	podman("import", "-q", archive, "exported")
	return strings.TrimSpace(podman("image", "mount", "exported"))
}
