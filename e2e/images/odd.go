package images

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/e2e/layout"
)

// odd is a small image made by hand: what layers may do to each other by
// image-spec layer.md and what tar may say, one directory a case.
func odd(_ context.Context, _ *Cache, dst *layout.Dir) (ocispec.Descriptor, error) {
	return madeOf(dst, oddLower, oddUpper, oddForms, nil)
}

// rare has what image-spec allows and some tools refuse.
func rare(_ context.Context, _ *Cache, dst *layout.Dir) (ocispec.Descriptor, error) {
	return madeOf(dst, []entry{
		dir("."),
		dir("usr"), dir("usr/bin"), symlink("bin", "usr/bin"),
		dir("lower"), file("lower/target", "of a lower layer\n"),
		dir("same-layer"), file("same-layer/after", "old\n"),
	}, []entry{
		// No entry names bin, which is a link below: the file belongs where it leads.
		file("bin/tool", "#!/bin/true\n").mode(0o755),
		hardlink("lower/link", "lower/target"),
		// A whiteout says nothing of its own layer, even of what comes before it.
		file("same-layer/after", "new\n"), whiteout("same-layer/.wh.after"),
		// The last of two entries of one name counts.
		file("twice", "first\n"), file("twice", "second\n").mode(0o600),
	})
}

func madeOf(dst *layout.Dir, layers ...[]entry) (ocispec.Descriptor, error) {
	img := handmade{dst: dst, arch: runtime.GOARCH}
	for i, entries := range layers {
		if err := img.layer(entries); err != nil {
			return ocispec.Descriptor{}, fmt.Errorf("layer %d: %w", i, err)
		}
	}
	return img.image(ocispec.ImageConfig{Cmd: []string{"/bin/tool"}})
}

// entry is one member of a layer's tar.
type entry struct {
	tar.Header
	body string
}

// The time of all entries that do not have one of their own.
var day = time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)

func file(name, body string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(body))}, body}
}
func dir(name string) entry {
	return entry{Header: tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: 0o755}}
}
func symlink(name, target string) entry {
	return entry{Header: tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777}}
}
func hardlink(name, target string) entry {
	return entry{Header: tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target, Mode: 0o644}}
}
func whiteout(name string) entry {
	return entry{Header: tar.Header{Name: name, Typeflag: tar.TypeReg}}
}

func (e entry) with(change func(*tar.Header)) entry { change(&e.Header); return e }
func (e entry) mode(m int64) entry                  { return e.with(func(h *tar.Header) { h.Mode = m }) }
func (e entry) at(t time.Time) entry                { return e.with(func(h *tar.Header) { h.ModTime = t }) }
func (e entry) owner(uid, gid int) entry {
	return e.with(func(h *tar.Header) { h.Uid, h.Gid = uid, gid })
}
func (e entry) format(f tar.Format) entry { return e.with(func(h *tar.Header) { h.Format = f }) }
func (e entry) xattr(name, value string) entry {
	return e.with(func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr." + name: value} })
}

var oddLower = []entry{
	dir("."),
	dir("usr"),
	file("file-becomes-dir", "a file\n"),
	dir("dir-becomes-file"), file("dir-becomes-file/child", "lost\n"),
	dir("dir-becomes-link"), file("dir-becomes-link/child", "lost\n"),
	symlink("link-becomes-dir", "usr"),
	symlink("link-becomes-file", "file-behind"), file("file-behind", "stays\n"),
	dir("opaque"), file("opaque/old", "lost\n"), dir("opaque/sub"), file("opaque/sub/old", "lost\n"),
	dir("gone"), file("gone/file", "lost\n"), dir("gone/dir"), file("gone/dir/file", "lost\n"), file("gone/not", "stays\n"),
	dir("hard"), file("hard/one", "linked\n"), hardlink("hard/two", "hard/one"), hardlink("hard/three", "hard/one"),
	dir("attributes"), file("attributes/file", "untouched\n"),
	dir("same-layer"), file("same-layer/before", "old\n"),
}

var oddUpper = []entry{
	dir("file-becomes-dir"), file("file-becomes-dir/child", "new\n"),
	file("dir-becomes-file", "a file\n"),
	symlink("dir-becomes-link", "usr"),
	dir("link-becomes-dir"), file("link-becomes-dir/child", "new\n"),
	file("link-becomes-file", "new\n"),
	// Whiteouts hide what lower layers have and nothing of their own layer,
	// wherever they stand in it.
	dir("opaque"), file("opaque/new", "new\n"), whiteout("opaque/.wh..wh..opq"), dir("opaque/sub"), file("opaque/sub/new", "new\n"),
	whiteout("gone/.wh.file"), whiteout("gone/.wh.dir"), whiteout("gone/.wh.never-was"),
	whiteout("same-layer/.wh.before"), file("same-layer/before", "new\n"),
	// A name that is written again leaves the group of its hard links.
	file("hard/two", "alone\n"),
	dir("attributes").mode(0o1770).owner(12, 34).at(day.Add(time.Hour)),
}

var oddForms = []entry{
	dir("forms"),
	file("forms/"+strings.Repeat("gnu-", 40), "long by GNU's entry\n").format(tar.FormatGNU),
	symlink("forms/gnu-link", strings.Repeat("../forms/", 20)+"target").format(tar.FormatGNU),
	file("forms/"+strings.Repeat("pax-", 40), "long by a PAX record\n").format(tar.FormatPAX),
	dir("forms/" + ustarPrefix), file("forms/"+ustarPrefix+"/"+strings.Repeat("ustar", 10), "long by ustar's prefix\n").format(tar.FormatUSTAR),
	file("forms/größe", "not ASCII\n"),
	file("forms/owner", "").owner(3_000_000, 4_000_000),
	file("forms/nanoseconds", "").at(day.Add(123_456_789)).format(tar.FormatPAX),
	file("forms/before-1970", "").at(time.Unix(-2, 500_000_000)).format(tar.FormatPAX),
	file("forms/set-ids", "").mode(0o6755).owner(1, 2),
	dir("forms/sticky").mode(0o3777),
	file("forms/xattr", "").xattr("user.note", "two\x00parts"),
	dir("forms/xattr-dir").xattr("user.note", "a directory's"),
	file("forms/capable", "").mode(0o755).owner(5, 6).xattr("security.capability", "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
	file("forms/unreadable", "secret\n").mode(0),
	{Header: tar.Header{Name: "forms/fifo", Typeflag: tar.TypeFifo, Mode: 0o640}},
	{Header: tar.Header{Name: "forms/null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}},
	{Header: tar.Header{Name: "forms/disk", Typeflag: tar.TypeBlock, Mode: 0o660, Gid: 6, Devmajor: 259, Devminor: 70000}},
	// A directory's entry may follow its content.
	file("forms/late/child", "earlier than its parent\n"), dir("forms/late").mode(0o700),
	// Names that only look different.
	file("./forms/dot", ""), file("/forms/slash", ""), file("forms//double", ""),
}

var ustarPrefix = strings.Repeat("prefix", 12)

// handmade is an image whose layers are lists of entries.
type handmade struct {
	dst    *layout.Dir
	arch   string
	layers []ocispec.Descriptor
	config ocispec.Image
}

func (m *handmade) layer(entries []entry) error {
	plain, err := m.dst.Add(ocispec.MediaTypeImageLayer, func(w io.Writer) error { return writeEntries(w, entries) })
	if err != nil {
		return err
	}
	m.layers = append(m.layers, plain)
	m.config.RootFS.DiffIDs = append(m.config.RootFS.DiffIDs, plain.Digest)
	return nil
}

func (m *handmade) image(c ocispec.ImageConfig) (ocispec.Descriptor, error) {
	m.config.OS, m.config.Architecture, m.config.Config = "linux", m.arch, c
	m.config.RootFS.Type = "layers"
	return m.dst.AddImage(m.config, m.layers)
}

func writeEntries(w io.Writer, entries []entry) error {
	t := tar.NewWriter(w)
	for _, e := range entries {
		h := e.Header
		if h.ModTime.IsZero() {
			h.ModTime = day
		}
		if err := t.WriteHeader(&h); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
		if _, err := io.WriteString(t, e.body); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
	return t.Close()
}
