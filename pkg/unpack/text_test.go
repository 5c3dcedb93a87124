package unpack

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"peel/pkg/progress"
	"peel/pkg/store"
)

// Layers and trees are written as text, an entry a line or between semicolons:
//
//	dir d mode=0700 own=1:2        file d/x hello t=7 x:user.a=1
//	link bin usr/bin               hard second first
//	char dev/null 1:3              block sda 8:0              fifo p
//
// A name or content that needs it is a Go string in quotes. What is not said is
// mode 0755 for directories, 0644 for the rest, owner 0:0 and the time 1.

type entry struct {
	kind   string
	name   string
	arg    string // content, target or device
	mode   uint32
	uid    int
	gid    int
	mtime  time.Time
	xattrs map[string]string
}

func parse(text string) []entry {
	var entries []entry
	for _, line := range strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == ';' }) {
		if f := fields(line); len(f) > 0 {
			entries = append(entries, parseEntry(f))
		}
	}
	return entries
}

func parseEntry(f []string) entry {
	e := entry{kind: f[0], name: f[1], mode: 0o644, mtime: time.Unix(1, 0), xattrs: map[string]string{}}
	f = f[2:]
	switch e.kind {
	case "dir":
		e.mode = 0o755
	case "link":
		e.mode = 0o777
		fallthrough
	case "hard", "char", "block":
		e.arg, f = f[0], f[1:]
	case "file":
		if len(f) > 0 && !strings.Contains(f[0], "=") {
			e.arg, f = f[0], f[1:]
		}
	case "fifo":
	default:
		panic("unknown kind " + e.kind)
	}
	for _, o := range f {
		key, value, _ := strings.Cut(o, "=")
		switch {
		case key == "mode":
			mode, err := strconv.ParseUint(value, 8, 32)
			must(err)
			e.mode = uint32(mode)
		case key == "own":
			_, err := fmt.Sscanf(value, "%d:%d", &e.uid, &e.gid)
			must(err)
		case key == "t":
			sec, err := strconv.ParseFloat(value, 64)
			must(err)
			e.mtime = time.Unix(0, int64(sec*1e9))
		case strings.HasPrefix(key, "x:"):
			e.xattrs[key[2:]] = value
		default:
			panic("unknown option " + o)
		}
	}
	return e
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// fields splits at blanks outside of quotes, and unquotes.
func fields(line string) []string {
	var list []string
	for {
		line = strings.TrimLeft(line, " \t")
		if line == "" {
			return list
		}
		if line[0] == '"' {
			q, err := strconv.QuotedPrefix(line)
			must(err)
			s, err := strconv.Unquote(q)
			must(err)
			list, line = append(list, s), line[len(q):]
			continue
		}
		end := strings.IndexAny(line, " \t")
		if end < 0 {
			end = len(line)
		}
		list, line = append(list, line[:end]), line[end:]
	}
}

func (e entry) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", e.kind, quoted(e.name))
	if e.arg != "" {
		b.WriteString(" " + quoted(e.arg))
	}
	usual := uint32(0o644)
	switch e.kind {
	case "dir":
		usual = 0o755
	case "link":
		usual = 0o777
	}
	if e.kind == "hard" {
		return b.String()
	}
	if e.mode != usual {
		fmt.Fprintf(&b, " mode=%04o", e.mode)
	}
	if e.uid != 0 || e.gid != 0 {
		fmt.Fprintf(&b, " own=%d:%d", e.uid, e.gid)
	}
	if !e.mtime.Equal(time.Unix(1, 0)) {
		fmt.Fprintf(&b, " t=%s", strconv.FormatFloat(float64(e.mtime.UnixNano())/1e9, 'f', -1, 64))
	}
	for _, k := range slices.Sorted(maps.Keys(e.xattrs)) {
		fmt.Fprintf(&b, " x:%s=%s", k, e.xattrs[k])
	}
	return b.String()
}

func quoted(s string) string {
	if q := strconv.Quote(s); s == "" || q != `"`+s+`"` || strings.ContainsAny(s, " ;=") {
		return q
	}
	return s
}

// tarOf packs entries with Go's own writer.
func tarOf(entries []entry) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: int64(e.mode), Uid: e.uid, Gid: e.gid, ModTime: e.mtime, Format: tar.FormatPAX}
		if len(e.xattrs) > 0 {
			h.PAXRecords = map[string]string{}
			for k, v := range e.xattrs {
				h.PAXRecords["SCHILY.xattr."+k] = v
			}
		}
		switch e.kind {
		case "dir":
			h.Typeflag, h.Name = tar.TypeDir, e.name+"/"
		case "file":
			h.Typeflag, h.Size = tar.TypeReg, int64(len(e.arg))
		case "link":
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.arg
		case "hard":
			h.Typeflag, h.Linkname = tar.TypeLink, e.arg
		case "char", "block":
			h.Typeflag = map[string]byte{"char": tar.TypeChar, "block": tar.TypeBlock}[e.kind]
			_, err := fmt.Sscanf(e.arg, "%d:%d", &h.Devmajor, &h.Devminor)
			must(err)
		case "fifo":
			h.Typeflag = tar.TypeFifo
		}
		must(w.WriteHeader(h))
		if e.kind == "file" {
			_, err := io.WriteString(w, e.arg)
			must(err)
		}
	}
	must(w.Close())
	return buf.Bytes()
}

// blobs is a store in memory.
type blobs map[digest.Digest][]byte

func (b blobs) Blob(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if blob, ok := b[d.Digest]; ok {
		return io.NopCloser(bytes.NewReader(blob)), nil
	}
	return nil, os.ErrNotExist
}

// imageOf makes an image of tars, not compressed.
func imageOf(tars ...[]byte) (blobs, *store.Image) {
	src, img := blobs{}, &store.Image{}
	for _, t := range tars {
		id := digest.FromBytes(t)
		src[id] = t
		img.Manifest.Layers = append(img.Manifest.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: id, Size: int64(len(t))})
		img.Config.RootFS.DiffIDs = append(img.Config.RootFS.DiffIDs, id)
	}
	return src, img
}

func imageOfText(layers ...string) (blobs, *store.Image) {
	var tars [][]byte
	for _, l := range layers {
		tars = append(tars, tarOf(parse(l)))
	}
	return imageOf(tars...)
}

// workDir is a directory on a tmpfs where there is one: thousands of trees come
// and go in these tests.
func workDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "unpack-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		// No panic, which would go over what the test has to say.
		if err := removeAt(unix.AT_FDCWD, dir); err != nil {
			t.Errorf("remove %s: %v", dir, err)
		}
	})
	return dir
}

// needRoot skips what only root can show.
func needRoot(t testing.TB) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root, for owners and devices")
	}
}

// list reads a tree back as text.
func list(t testing.TB, root string) string {
	t.Helper()
	var lines []string
	firstName := map[uint64]string{}
	err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		e := entry{name: name, mode: st.Mode & 0o7777, uid: int(st.Uid), gid: int(st.Gid), mtime: time.Unix(st.Mtim.Unix()), xattrs: xattrsOf(path)}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			e.kind = "dir"
		case unix.S_IFREG:
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			e.kind, e.arg = "file", string(b)
		case unix.S_IFLNK:
			e.kind = "link"
			if e.arg, err = os.Readlink(path); err != nil {
				return err
			}
		case unix.S_IFIFO:
			e.kind = "fifo"
		case unix.S_IFCHR, unix.S_IFBLK:
			e.kind = map[uint32]string{unix.S_IFCHR: "char", unix.S_IFBLK: "block"}[st.Mode&unix.S_IFMT]
			e.arg = fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
		standsFor(&e)
		if first, seen := firstName[st.Ino]; seen && e.kind != "dir" {
			e = entry{kind: "hard", name: name, arg: first}
		} else {
			firstName[st.Ino] = name
		}
		if s := e.String(); s != "dir ." {
			lines = append(lines, s)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

// standsFor reads what a user's file says it is, and takes the user for root.
func standsFor(e *entry) {
	if e.uid == os.Geteuid() && e.gid == os.Getegid() {
		e.uid, e.gid = 0, 0
	}
	value, ok := e.xattrs[overrideStat]
	if !ok {
		return
	}
	delete(e.xattrs, overrideStat)
	var typ string
	_, err := fmt.Sscanf(value, "%d:%d:%o:%s", &e.uid, &e.gid, &e.mode, &typ)
	must(err)
	typ, device, _ := strings.Cut(typ, "-")
	switch typ {
	case "char", "block":
		e.kind, e.arg = typ, strings.Replace(device, "-", ":", 1)
	case "pipe":
		e.kind = "fifo"
	}
}

func xattrsOf(path string) map[string]string {
	m := map[string]string{}
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		return m
	}
	for _, name := range strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		value := make([]byte, 64<<10)
		if n, err := unix.Lgetxattr(path, name, value); err == nil && name != "" {
			m[name] = string(value[:n])
		}
	}
	return m
}

// lines puts a wanted tree into the form of list.
func lines(text string) string {
	var all []string
	entries := parse(text)
	slices.SortStableFunc(entries, func(a, b entry) int { return strings.Compare(walkOrder(a.name), walkOrder(b.name)) })
	for _, e := range entries {
		all = append(all, e.String())
	}
	return strings.Join(all, "\n")
}

// walkOrder sorts names as filepath.WalkDir comes to them.
func walkOrder(name string) string {
	if name == "." {
		return ""
	}
	return strings.ReplaceAll(name, "/", "\x00")
}

// unpackText unpacks layers into a new directory and lists what came out.
func unpackText(t testing.TB, layers ...string) (string, error) {
	t.Helper()
	src, img := imageOfText(layers...)
	dir := filepath.Join(workDir(t), "rootfs")
	_, err := Image(context.Background(), src, img, dir, Options{Form: Rootfs})
	if err != nil {
		return "", err
	}
	return list(t, dir), nil
}

// warnings keeps the warnings among events.
type warnings struct {
	mu    sync.Mutex
	texts []string
}

func (w *warnings) add(e progress.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.Kind == progress.Warning {
		w.texts = append(w.texts, e.Message)
	}
}
