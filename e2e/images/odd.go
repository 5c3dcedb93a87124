package images

import (
	"archive/tar"
	"context"
	"runtime"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/e2e/layout"
	"peel/e2e/tars"
)

// odd is a small image made by hand: what layers may do to each other by
// image-spec layer.md and what tar may say, one directory a case.
func odd(_ context.Context, _ *Cache, dst *layout.Dir) (ocispec.Descriptor, error) {
	return madeOf(dst, oddLower, oddUpper, oddForms, nil)
}

// rare has what image-spec allows and some tools refuse.
func rare(_ context.Context, _ *Cache, dst *layout.Dir) (ocispec.Descriptor, error) {
	return madeOf(dst, []tars.Entry{
		tars.Dir("."),
		tars.Dir("usr"), tars.Dir("usr/bin"), tars.Symlink("bin", "usr/bin"),
		tars.Dir("lower"), tars.File("lower/target", "of a lower layer\n"),
		tars.Dir("same-layer"), tars.File("same-layer/after", "old\n"),
	}, []tars.Entry{
		// No entry names bin, which is a link below: the file belongs where it leads.
		tars.File("bin/tool", "#!/bin/true\n").Mode(0o755),
		tars.Hardlink("lower/link", "lower/target"),
		// A whiteout says nothing of its own layer, even of what comes before it.
		tars.File("same-layer/after", "new\n"), tars.Empty("same-layer/.wh.after"),
		// The last of two entries of one name counts.
		tars.File("twice", "first\n"), tars.File("twice", "second\n").Mode(0o600),
	})
}

func madeOf(dst *layout.Dir, layers ...[]tars.Entry) (ocispec.Descriptor, error) {
	return tars.Image(dst, runtime.GOARCH, ocispec.ImageConfig{Cmd: []string{"/bin/tool"}}, layers...)
}

var oddLower = []tars.Entry{
	tars.Dir("."),
	tars.Dir("usr"),
	tars.File("file-becomes-dir", "a file\n"),
	tars.Dir("dir-becomes-file"), tars.File("dir-becomes-file/child", "lost\n"),
	tars.Dir("dir-becomes-link"), tars.File("dir-becomes-link/child", "lost\n"),
	tars.Symlink("link-becomes-dir", "usr"),
	tars.Symlink("link-becomes-file", "file-behind"), tars.File("file-behind", "stays\n"),
	tars.Dir("opaque"), tars.File("opaque/old", "lost\n"), tars.Dir("opaque/sub"), tars.File("opaque/sub/old", "lost\n"),
	tars.Dir("gone"), tars.File("gone/file", "lost\n"), tars.Dir("gone/dir"), tars.File("gone/dir/file", "lost\n"), tars.File("gone/not", "stays\n"),
	tars.Dir("hard"), tars.File("hard/one", "linked\n"), tars.Hardlink("hard/two", "hard/one"), tars.Hardlink("hard/three", "hard/one"),
	tars.Dir("attributes"), tars.File("attributes/file", "untouched\n"),
	tars.Dir("same-layer"), tars.File("same-layer/before", "old\n"),
}

var oddUpper = []tars.Entry{
	tars.Dir("file-becomes-dir"), tars.File("file-becomes-dir/child", "new\n"),
	tars.File("dir-becomes-file", "a file\n"),
	tars.Symlink("dir-becomes-link", "usr"),
	tars.Dir("link-becomes-dir"), tars.File("link-becomes-dir/child", "new\n"),
	tars.File("link-becomes-file", "new\n"),
	// Whiteouts hide what lower layers have and nothing of their own layer,
	// wherever they stand in it.
	tars.Dir("opaque"), tars.File("opaque/new", "new\n"), tars.Empty("opaque/.wh..wh..opq"), tars.Dir("opaque/sub"), tars.File("opaque/sub/new", "new\n"),
	tars.Empty("gone/.wh.file"), tars.Empty("gone/.wh.dir"), tars.Empty("gone/.wh.never-was"),
	tars.Empty("same-layer/.wh.before"), tars.File("same-layer/before", "new\n"),
	// A name that is written again leaves the group of its hard links.
	tars.File("hard/two", "alone\n"),
	tars.Dir("attributes").Mode(0o1770).Owner(12, 34).At(tars.Day.Add(time.Hour)),
}

var oddForms = []tars.Entry{
	tars.Dir("forms"),
	tars.File("forms/"+strings.Repeat("gnu-", 40), "long by GNU's entry\n").Format(tar.FormatGNU),
	tars.Symlink("forms/gnu-link", strings.Repeat("../forms/", 20)+"target").Format(tar.FormatGNU),
	tars.File("forms/"+strings.Repeat("pax-", 40), "long by a PAX record\n").Format(tar.FormatPAX),
	tars.Dir("forms/" + ustarPrefix), tars.File("forms/"+ustarPrefix+"/"+strings.Repeat("ustar", 10), "long by ustar's prefix\n").Format(tar.FormatUSTAR),
	tars.File("forms/größe", "not ASCII\n"),
	tars.File("forms/owner", "").Owner(3_000_000, 4_000_000),
	tars.File("forms/nanoseconds", "").At(tars.Day.Add(123_456_789)).Format(tar.FormatPAX),
	tars.File("forms/before-1970", "").At(time.Unix(-2, 500_000_000)).Format(tar.FormatPAX),
	tars.File("forms/set-ids", "").Mode(0o6755).Owner(1, 2),
	tars.Dir("forms/sticky").Mode(0o3777),
	tars.File("forms/xattr", "").Xattr("user.note", "two\x00parts"),
	tars.Dir("forms/xattr-dir").Xattr("user.note", "a directory's"),
	tars.File("forms/capable", "").Mode(0o755).Owner(5, 6).Xattr("security.capability", "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
	tars.File("forms/unreadable", "secret\n").Mode(0),
	{Header: tar.Header{Name: "forms/fifo", Typeflag: tar.TypeFifo, Mode: 0o640}},
	{Header: tar.Header{Name: "forms/null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}},
	{Header: tar.Header{Name: "forms/disk", Typeflag: tar.TypeBlock, Mode: 0o660, Gid: 6, Devmajor: 259, Devminor: 70000}},
	// A directory's entry may follow its content.
	tars.File("forms/late/child", "earlier than its parent\n"), tars.Dir("forms/late").Mode(0o700),
	// Names that only look different.
	tars.File("./forms/dot", ""), tars.File("/forms/slash", ""), tars.File("forms//double", ""),
}

var ustarPrefix = strings.Repeat("prefix", 12)
