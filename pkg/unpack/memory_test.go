package unpack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"peel/pkg/erofs"
	"peel/pkg/image/merge"
	"peel/pkg/layers"
	"peel/pkg/layers/changeset"
	"peel/pkg/layers/tar"
)

// Package merge applies layers to a tree in memory. It is tested here, with the
// same layers, and beside what unpacking makes of them.

func TestLayersApplyInMemoryAsTheSpecificationSays(t *testing.T) {
	for _, c := range stacks() {
		t.Run(c.name, func(t *testing.T) {
			got, err := mergeText(t, c.layers...)
			if err != nil {
				t.Fatal(err)
			}
			if want := lines(c.want); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestLayersThatMeanNothingAreRefusedInMemory(t *testing.T) {
	for _, c := range refusals() {
		t.Run(c.name, func(t *testing.T) {
			_, err := mergeText(t, c.layers...)
			var e *EntryError
			if !errors.Is(err, c.want) || !errors.As(err, &e) || e.Name != c.entry {
				t.Errorf("got %v, want %v for entry %q", err, c.want, c.entry)
			}
			var l *LayerError
			if !errors.As(err, &l) || l.Index != len(c.layers)-1 {
				t.Errorf("%v does not name layer %d", err, len(c.layers)-1)
			}
		})
	}
}

// TestMergeInMemoryEqualsApplyingOneAfterTheOther compares with the reference.
// Where that has no opinion, there is TestFilesAndMemoryAreTheSame.
func TestMergeInMemoryEqualsApplyingOneAfterTheOther(t *testing.T) {
	stacks, seed := number("PEEL_STACKS", 4000), number("PEEL_SEED", 1)
	compared := 0
	for i := range uint64(stacks) {
		layers := randomStack(rand.New(rand.NewPCG(uint64(seed)+i, 0)))
		want, clear, wantErr := applyAll(layers)
		if !clear {
			continue
		}
		compared++
		got, err := mergeText(t, layers...)
		if (wantErr == nil) != (err == nil) || err == nil && got != want {
			t.Fatalf("seed %d:\n%s\n-- got: %v\n%s\n-- want: %v\n%s", uint64(seed)+i, strings.Join(layers, "\n--\n"), err, got, wantErr, want)
		}
	}
	if compared < stacks/2 {
		t.Errorf("only %d of %d stacks say anything", compared, stacks)
	}
}

func TestFilesAndMemoryAreTheSame(t *testing.T) {
	needRoot(t)
	work := workDir(t)
	stacks, seed := number("PEEL_STACKS", 1000), number("PEEL_SEED", 100_000)
	if testing.Short() {
		stacks = 100
	}
	for i := range uint64(stacks) {
		layers := randomStack(rand.New(rand.NewPCG(uint64(seed)+i, 0)))
		got, err := mergeText(t, layers...)
		dir := filepath.Join(work, fmt.Sprint(i))
		src, img := imageOfText(layers...)
		_, wantErr := Image(context.Background(), src, img, dir, Options{Form: Rootfs})
		want := ""
		if wantErr == nil {
			want = list(t, dir)
			must(removeAt(unix.AT_FDCWD, dir))
		}
		// Where several layers are at fault, either may come to another one first.
		if (err == nil) != (wantErr == nil) || got != want {
			t.Fatalf("seed %d:\n%s\n-- memory: %v\n%s\n-- files: %v\n%s", uint64(seed)+i, strings.Join(layers, "\n--\n"), err, got, wantErr, want)
		}
	}
}

// TestAttributesAreWhatTheKernelMakesOfThem compares attributes that setxattr(2)
// checks, refuses or changes.
func TestAttributesAreWhatTheKernelMakesOfThem(t *testing.T) {
	needRoot(t)
	acl := func(entries ...uint32) string { // tag, permissions and id of each
		b := []byte{2, 0, 0, 0}
		for i := 0; i < len(entries); i += 3 {
			b = append(b, byte(entries[i]), 0, byte(entries[i+1]), 0)
			b = append(b, byte(entries[i+2]), byte(entries[i+2]>>8), byte(entries[i+2]>>16), byte(entries[i+2]>>24))
		}
		return string(b)
	}
	const none = 1<<32 - 1
	minimal := acl(1, 7, none, 4, 5, none, 0x20, 1, none)
	full := acl(1, 7, none, 2, 6, 1000, 4, 5, none, 8, 4, 50, 0x10, 7, none, 0x20, 1, 77)
	names := map[string][]string{
		"system.posix_acl_access": {"", "\x02\x00\x00\x00", "\x01\x00\x00\x00", "short", minimal, full,
			acl(1, 7, none, 4, 5, none, 0x10, 3, none, 0x20, 1, none),
			acl(1, 7, none, 2, 6, 1000, 4, 5, none, 0x20, 1, none), acl(1, 7, none, 2, 6, none, 4, 5, none, 0x10, 7, none, 0x20, 1, none),
			acl(1, 8, none, 4, 5, none, 0x20, 1, none), acl(4, 5, none, 1, 7, none, 0x20, 1, none), acl(1, 7, none, 4, 5, none),
			acl(1, 7, none, 4, 5, none, 0x20, 1, none, 0x20, 1, none), acl(1, 7, none, 8, 6, 1, 4, 5, none, 0x10, 1, none, 0x20, 1, none), acl(3, 7, none),
			acl(1, 7, none, 0x10, 7, none, 0x20, 1, none), acl(1, 7, none, 4, 5, none, 0x20, 1, none, 0x10, 7, none)},
		"system.posix_acl_default": {minimal, full, "x"},
		"security.capability": {"x", "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
			"\x01\x00\x00\x01\x00\x04\x00\x00\x00\x00\x00\x00", "\x01\x00\x00\x03\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00"},
		"user.a": {"1"}, "trusted.a": {"1"}, "security.a": {"1"}, "system.a": {"1"}, "user.": {"1"}, "a": {"1"}, "other.a": {"1"}, "btrfs.a": {"1"},
	}
	kinds := []entry{{kind: "file", arg: "x"}, {kind: "dir"}, {kind: "link", arg: "x"}, {kind: "fifo"}, {kind: "char", arg: "1:3"}}
	for _, k := range kinds {
		for name, values := range names {
			for _, v := range values {
				e := k
				e.name, e.mode, e.mtime, e.xattrs = "f", 0o4741, time.Unix(1, 0), map[string]string{name: v}
				archive := tarOf([]entry{e})
				got, err := mergeTars(t, archive)
				if err != nil {
					t.Fatal(err)
				}
				src, img := imageOf(archive)
				// Not on a tmpfs, which takes user.* where others do not, or not at all.
				dir := filepath.Join(t.TempDir(), "rootfs")
				if _, err := Image(context.Background(), src, img, dir, Options{Form: Rootfs}); err != nil {
					t.Fatal(err)
				}
				if want := list(t, dir); got != want {
					t.Errorf("%s with %s=%q:\nmemory:\n%s\nfiles:\n%s", k.kind, name, v, got, want)
				}
			}
		}
	}
}

func mergeText(t testing.TB, layers ...string) (string, error) {
	t.Helper()
	var tars [][]byte
	for _, l := range layers {
		tars = append(tars, tarOf(parse(l)))
	}
	return mergeTars(t, tars...)
}

// mergeTars applies layers in memory, and lists the tree as list does.
func mergeTars(t testing.TB, tars ...[]byte) (string, error) {
	t.Helper()
	j := &merge.Job{Limits: changeset.Limits{}.WithDefaults(), Losses: &changeset.Losses{}}
	var trees []*merge.Layer
	for i, b := range tars {
		r := tar.NewReader(&chunk{b}, tar.Limits{})
		tree, err := merge.Read(context.Background(), j, r, i, int64(len(b)), nil)
		r.Close()
		if err != nil {
			return "", &LayerError{Index: i, Err: err}
		}
		trees = append(trees, tree)
	}
	root, layer, err := merge.Merge(trees)
	if err != nil {
		return "", &LayerError{Index: layer, Err: err}
	}
	if _, err := erofs.WriteIndex(io.Discard, root, devicesOf(tars), erofs.Options{}); err != nil {
		t.Errorf("the tree cannot be written: %v", err)
	}
	return listInodes(root, tars), nil
}

func devicesOf(tars [][]byte) (list []erofs.Device) {
	for _, b := range tars {
		list = append(list, erofs.Device{Size: int64(len(b)), Bytes: bytes.NewReader(b)})
	}
	return list
}

// chunk is a tar in one piece.
type chunk struct{ b []byte }

func (c *chunk) Next() (*layers.Chunk, error) {
	if c.b == nil {
		return nil, io.EOF
	}
	b := c.b
	c.b = nil
	return layers.NewChunk(b, nil), nil
}

// listInodes lists a tree in memory as list does one on disk.
func listInodes(root *erofs.Inode, tars [][]byte) string {
	var lines []string
	first := map[*erofs.Inode]string{}
	var visit func(name string, i *erofs.Inode)
	visit = func(name string, i *erofs.Inode) {
		e := entry{name: name, mode: i.Mode & 0o7777, uid: int(i.UID), gid: int(i.GID), mtime: time.Unix(i.Sec, int64(i.Nsec)), xattrs: map[string]string{}}
		for _, x := range i.Xattrs {
			e.xattrs[x.Name] = x.Value
		}
		switch i.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			e.kind = "dir"
		case unix.S_IFREG:
			e.kind, e.arg = "file", string(tars[i.Device-1][i.Offset:][:i.Size])
		case unix.S_IFLNK:
			e.kind, e.arg = "link", i.Target
		case unix.S_IFIFO:
			e.kind = "fifo"
		case unix.S_IFCHR:
			e.kind, e.arg = "char", fmt.Sprintf("%d:%d", i.Rdev.Major, i.Rdev.Minor)
		case unix.S_IFBLK:
			e.kind, e.arg = "block", fmt.Sprintf("%d:%d", i.Rdev.Major, i.Rdev.Minor)
		}
		if was, seen := first[i]; seen {
			e = entry{kind: "hard", name: name, arg: was}
		} else {
			first[i] = name
		}
		if s := e.String(); s != "dir ." {
			lines = append(lines, s)
		}
		names := map[string]*erofs.Inode{}
		for _, d := range i.Entries {
			names[d.Name] = d.Inode
		}
		for _, n := range slices.Sorted(maps.Keys(names)) {
			visit(strings.TrimPrefix(name+"/"+n, "./"), names[n])
		}
	}
	visit(".", root)
	return strings.Join(lines, "\n")
}
