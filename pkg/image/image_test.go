package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"peel/e2e/tree"
	"peel/pkg/layers/changeset"
	"peel/pkg/store"
	"peel/pkg/unpack"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// blobs is a store in memory that counts what it is asked for.
type blobs struct {
	mu    sync.Mutex
	bytes map[digest.Digest][]byte
	asked map[digest.Digest]int
}

func (b *blobs) Blob(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked[d.Digest]++
	if blob, ok := b.bytes[d.Digest]; ok {
		return io.NopCloser(bytes.NewReader(blob)), nil
	}
	return nil, store.ErrNotFound
}

// imageOf makes an image of tars, compressed.
func imageOf(t testing.TB, tars ...[]byte) (*blobs, *store.Image) {
	t.Helper()
	src := &blobs{bytes: map[digest.Digest][]byte{}, asked: map[digest.Digest]int{}}
	img := &store.Image{}
	for _, b := range tars {
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		id := digest.FromBytes(z.Bytes())
		src.bytes[id] = z.Bytes()
		img.Manifest.Layers = append(img.Manifest.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: id, Size: int64(z.Len())})
		img.Config.RootFS.DiffIDs = append(img.Config.RootFS.DiffIDs, digest.FromBytes(b))
	}
	img.Descriptor = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(fmt.Sprint(img.Config.RootFS.DiffIDs)), Size: 1}
	return src, img
}

type entry struct {
	tar.Header
	body string
}

func file(name, body string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(body))}, body}
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// layersOf is three layers with a bit of everything.
func layersOf(t testing.TB) [][]byte {
	big := strings.Repeat("0123456789abcdef", 100_000)
	base := []entry{
		{Header: tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}},
		{Header: tar.Header{Name: "usr/bin/", Typeflag: tar.TypeDir, Mode: 0o755}},
		{Header: tar.Header{Name: "bin", Typeflag: tar.TypeSymlink, Linkname: "usr/bin", Mode: 0o777}},
		file("usr/bin/sh", "#!sh"), file("etc/passwd", "root\n"), file("etc/shadow", "secret"), file("big", big), file("empty", ""),
		{Header: tar.Header{Name: "usr/bin/ping", Typeflag: tar.TypeReg, Mode: 0o4755, PAXRecords: map[string]string{
			"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}}},
		{Header: tar.Header{Name: "dev/null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3, Mode: 0o666}},
		{Header: tar.Header{Name: "usr/bin/bash", Typeflag: tar.TypeLink, Linkname: "usr/bin/sh"}},
	}
	for n := range 300 {
		base = append(base, file(fmt.Sprintf("usr/share/doc/package-%d/copyright", n), strings.Repeat("text ", n)))
	}
	open := tarOf(t, file("last", "of the last layer"))
	return [][]byte{
		tarOf(t, base...),
		tarOf(t, file("bin/tool", "a tool"), file("etc/.wh.shadow", ""), file("usr/share/doc/package-7/.wh..wh..opq", ""), file("usr/share/doc/package-7/new", "x"),
			entry{Header: tar.Header{Name: "etc/passwd-", Typeflag: tar.TypeLink, Linkname: "etc/passwd"}}),
		append(open[:len(open)-1024], sparseTar(t)...), // in place of the two zero blocks at its end
		tarOf(t, file("short", strings.Repeat("no padding behind it ", 100)))[:512+2100],
	}
}

// sparseTar is two files with holes as GNU tar packs them. Their data is at no
// block's start.
func sparseTar(t testing.TB) []byte {
	t.Helper()
	if _, err := exec.LookPath("tar"); err != nil {
		t.Skip("SKIPPED: needs GNU tar")
	}
	dir := t.TempDir()
	for n, name := range []string{"sparse", "sparse2"} {
		f, err := os.Create(dir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for off, s := range map[int64]string{0: "start", 1 << 20: "middle", 3<<20 + 100: "near the end"} {
			if _, err := f.WriteAt([]byte(s+name), off+int64(n)); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(f.Truncate(4<<20+333), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("tar", "-C", dir, "-c", "--format=posix", "--sparse", "--owner=0", "--group=0", "--mtime=@77", "sparse", "sparse2").Output()
	if err != nil {
		t.Fatal(err)
	}
	if len(out) > 1<<20 {
		t.Skip("SKIPPED: needs a file system with holes")
	}
	return out
}

func open(t testing.TB) *Cache {
	t.Helper()
	c, err := Open(t.TempDir() + "/store")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func prepare(t testing.TB, c *Cache, src changeset.Blobs, img *store.Image) *Prepared {
	t.Helper()
	p, err := c.Prepare(context.Background(), src, img, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// needMounts skips where the kernel does not mount what is prepared.
func needMounts(t testing.TB, c *Cache) {
	t.Helper()
	err := c.Check()
	var u *UnsupportedError
	if errors.As(err, &u) {
		t.Skip("SKIPPED: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// listMounted lists a prepared image as the kernel shows it.
func listMounted(t testing.TB, p *Prepared) tree.Tree {
	t.Helper()
	m, err := p.Tree()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var got tree.Tree
	err = m.Do(func(fd int) (err error) {
		got, err = tree.List(fmt.Sprintf("/proc/self/fd/%d/", fd))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// unpacked lists the image as files.
func unpacked(t testing.TB, src changeset.Blobs, img *store.Image) tree.Tree {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "rootfs")
	if _, err := unpack.Image(context.Background(), src, img, dir, unpack.Options{Form: unpack.Rootfs}); err != nil {
		t.Fatal(err)
	}
	want, err := tree.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	return want
}

func compare(t testing.TB, want, got tree.Tree) {
	t.Helper()
	for _, d := range tree.Compare(want, got) {
		t.Error(d)
	}
	if len(want) < 2 {
		t.Error("nothing to compare")
	}
}

func TestAMountedImageIsWhatUnpackingMakes(t *testing.T) {
	c := open(t)
	needMounts(t, c)
	tars := layersOf(t)
	src, img := imageOf(t, tars...)
	want := unpacked(t, src, img)
	compare(t, want, listMounted(t, prepare(t, c, src, img)))

	t.Run("and at a directory", func(t *testing.T) {
		dir := t.TempDir()
		if err := prepare(t, c, src, img).Mount(dir); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(dir, unix.MNT_DETACH)
		got, err := tree.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, want, got)
	})
	t.Run("and of layers that others have brought", func(t *testing.T) {
		none := &blobs{asked: map[digest.Digest]int{}}
		_, other := imageOf(t, tars...)
		other.Descriptor.Digest = digest.FromString("another manifest")
		compare(t, want, listMounted(t, prepare(t, c, none, other)))
		if len(none.asked) > 0 {
			t.Errorf("asked for %d blobs", len(none.asked))
		}
	})
	t.Run("and below a long path", func(t *testing.T) {
		far, err := Open(filepath.Join(t.TempDir(), strings.Repeat("long", 50)))
		if err != nil {
			t.Fatal(err)
		}
		compare(t, want, listMounted(t, prepare(t, far, src, img)))
	})
}

func TestAnImageInOneFileIsWhatUnpackingMakes(t *testing.T) {
	c := open(t)
	src, img := imageOf(t, layersOf(t)...)
	var first, second bytes.Buffer
	if _, err := c.Write(context.Background(), &first, src, img, Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(context.Background(), &second, src, img, Options{}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("other bytes from layers in the cache")
	}
	needMounts(t, c)
	path := t.TempDir() + "/image"
	if err := os.WriteFile(path, first.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	compare(t, unpacked(t, src, img), listMounted(t, &Prepared{Index: path}))
}

func TestMoreLayersThanAPageOfMountOptionsHolds(t *testing.T) {
	c := open(t)
	needMounts(t, c)
	var tars [][]byte
	for n := range 120 {
		tars = append(tars, tarOf(t, file(fmt.Sprint("f", n), fmt.Sprint(n)), file("same", fmt.Sprint(n))))
	}
	src, img := imageOf(t, tars...)
	compare(t, unpacked(t, src, img), listMounted(t, prepare(t, c, src, img)))
}

func TestALayerListedTwice(t *testing.T) {
	c := open(t)
	a := tarOf(t, file("a", "1"), file("b", "2"))
	src, img := imageOf(t, a, tarOf(t, file(".wh.a", ""), file(".wh.b", "")), a)
	p := prepare(t, c, src, img)
	if len(p.Devices) != 3 || p.Devices[0] != p.Devices[2] {
		t.Errorf("devices %q", p.Devices)
	}
	needMounts(t, c)
	compare(t, unpacked(t, src, img), listMounted(t, p))
}

func TestAnImageOfNoLayers(t *testing.T) {
	c := open(t)
	src, img := imageOf(t)
	p := prepare(t, c, src, img)
	needMounts(t, c)
	if got := listMounted(t, p); len(got) != 1 {
		t.Error(got)
	}
}

func TestWhatIsPreparedIsNotAskedForAgain(t *testing.T) {
	c := open(t)
	src, img := imageOf(t, layersOf(t)...)
	if _, err := c.Find(IDOf(img)); !errors.Is(err, ErrNotFound) {
		t.Errorf("before: %v", err)
	}
	prepare(t, c, src, img)
	prepare(t, c, src, img)
	for d, n := range src.asked {
		if n != 1 {
			t.Errorf("%s: asked for %d times", d, n)
		}
	}
	p, err := c.Find(IDOf(img))
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	b, err := os.ReadFile(p.Devices[0])
	if err != nil || digest.FromBytes(b) != img.Config.RootFS.DiffIDs[0] {
		t.Errorf("%v, the device is not the layer's tar", err)
	}
}

func TestTwoAtOncePrepareALayerOnce(t *testing.T) {
	c := open(t)
	src, img := imageOf(t, layersOf(t)...)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			p, err := c.Prepare(context.Background(), src, img, Options{})
			if err != nil {
				t.Error(err)
				return
			}
			p.Close()
		})
	}
	wg.Wait()
	nothingLeft(t, c)
}

// nothingLeft checks that nothing on its way is left.
func nothingLeft(t testing.TB, c *Cache) {
	t.Helper()
	for dir, want := range map[string]string{"layers/ingest": "", "erofs": "sha256"} {
		entries, err := os.ReadDir(filepath.Join(c.root, dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Name() != want {
				t.Errorf("left in %s: %s", dir, e.Name())
			}
		}
	}
}
