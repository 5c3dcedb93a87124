package tar

import (
	stdtar "archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// compare reads an archive with archive/tar and with this package, and returns how
// they differ where the package comment does not say that they do.
func compare(data []byte, chunk int) error {
	src := inChunksOf(data, chunk)
	ours, ourErr := readAll(src, Limits{})
	if src.held != 0 {
		return fmt.Errorf("%d chunks are still held", src.held)
	}
	if e := (*Error)(nil); ourErr != nil && !errors.As(ourErr, &e) {
		return fmt.Errorf("bare error %v", ourErr)
	}
	limit := (*LimitError)(nil)
	atLimit := errors.As(ourErr, &limit)
	std := stdtar.NewReader(bytes.NewReader(data))
	for i := 0; ; {
		h, err := std.Next()
		if err == io.EOF {
			if i < len(ours) || ourErr != nil && !atLimit {
				return fmt.Errorf("archive/tar ends behind entry %d, we have %d and %v", i, len(ours), ourErr)
			}
			return nil
		}
		if err != nil {
			return nil // what archive/tar refuses is ours to decide
		}
		if h.Typeflag == stdtar.TypeXGlobalHeader {
			if slices.ContainsFunc(slices.Collect(maps.Keys(h.PAXRecords)), func(k string) bool { return k != "comment" }) || ourErr != nil {
				return nil // applied here, or refused
			}
			continue
		}
		// Not all the zeros of a hole: archive/tar would make them one by one, and
		// does not see before their end that bytes are missing or too many.
		var content []byte
		whole := h.Size <= maxContent
		if whole {
			if content, err = io.ReadAll(std); err != nil {
				return nil
			}
		}
		decodes := slices.ContainsFunc(slices.Collect(maps.Keys(h.PAXRecords)), func(k string) bool { return strings.HasPrefix(k, "LIBARCHIVE.xattr.") })
		if i == len(ours) {
			if atLimit || decodes || !whole {
				return nil
			}
			return fmt.Errorf("archive/tar reads %q, we say %v", h.Name, ourErr)
		}
		if diff := sameEntry(h, content, whole, decodes, ours[i]); diff != "" {
			return fmt.Errorf("entry %d %q: %s: %+v", i, h.Name, diff, ours[i])
		}
		i++
	}
}

// sameEntry names the first field that differs.
func sameEntry(h *stdtar.Header, content []byte, whole, decodes bool, e entry) string {
	typ, size := h.Typeflag, h.Size
	switch typ {
	case '7', 'S':
		typ = TypeReg
	case '1', '2', '3', '4', '5', '6':
		size, content = 0, nil
	}
	var xattrs string
	if !decodes {
		//lint:ignore SA1019 PAXRecords has deleted ones too
		for k, v := range h.Xattrs {
			xattrs += fmt.Sprintf("%q=%q ", k, v)
		}
	}
	ours := strings.Fields(e.xattrs)
	theirs := strings.Fields(xattrs)
	slices.Sort(ours)
	slices.Sort(theirs)
	device := typ == TypeChar || typ == TypeBlock
	switch {
	case e.typ != typ:
		return "type"
	case e.name != h.Name:
		return "name"
	case e.link != h.Linkname:
		return "link"
	case e.size != size:
		return "size"
	case int64(e.mode) != h.Mode&0o7777:
		return "mode"
	case e.uid != int64(h.Uid) || e.gid != int64(h.Gid):
		return "owner"
	case !e.mtime.Equal(h.ModTime):
		return "mtime"
	case !e.atime.Equal(h.AccessTime):
		return "atime"
	case device && (e.major != h.Devmajor || e.minor != h.Devminor):
		return "device"
	case !decodes && !slices.Equal(ours, theirs):
		return "xattrs"
	case whole && e.content != string(content):
		return "content"
	}
	return ""
}

// TestAgreesWithArchiveTarOnItsOwnTestdata runs over the archives that come with Go.
func TestAgreesWithArchiveTarOnItsOwnTestdata(t *testing.T) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Skip("SKIP: no go command:", err)
	}
	files, _ := filepath.Glob(filepath.Join(strings.TrimSpace(string(root)), "src/archive/tar/testdata/*.tar"))
	if len(files) == 0 {
		t.Skip("SKIP: no source of the standard library beside the go command")
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := compare(data, 4096); err != nil {
			t.Errorf("%s: %v", filepath.Base(f), err)
		}
	}
}

// FuzzAgainstArchiveTar also mends the checksums of what the fuzzer made, without
// which it would hardly ever get past one.
func FuzzAgainstArchiveTar(f *testing.F) {
	for _, a := range [][]byte{
		archive(file("a", "hello"), raw{name: "d/", typ: nul, magic: v7Magic}.String(), raw{name: "l", link: "a", typ: '1'}.String()),
		archive(special('L', "long\x00"), special('K', "target\x00"), raw{name: "s", typ: '2', magic: gnuMagic, at: map[int]string{345: "00000000012"}}.String()),
		archive(pax('x', "path=p", "size=1", "uid=5", "mtime=-1.5", "atime=3", "SCHILY.xattr.user.a=b", "LIBARCHIVE.xattr.user.c=eA"), file("f", "x")),
		archive(pax('x', "GNU.sparse.size=10", "GNU.sparse.numblocks=2", "GNU.sparse.offset=2", "GNU.sparse.numbytes=3", "GNU.sparse.offset=7", "GNU.sparse.numbytes=1"), file("f", "abcd")),
		archive(pax('x', "GNU.sparse.map=0,1,4,1", "GNU.sparse.size=5", "GNU.sparse.numblocks=2", "GNU.sparse.name=real"), file("f", "ab")),
		archive(pax('x', "GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.realsize=6"), file("x", body("2\n1\n1\n4\n2\n")+"abc")),
		archive(raw{name: "f", typ: 'S', magic: gnuMagic, size: octalSize(1), at: map[int]string{482: "\x01", 483: "00000000003"}}.String(), "00000000001\x0000000000001\x00"+strings.Repeat("\x00", 488), body("a")),
		archive(raw{name: "c", typ: '3', major: "\x80\x00\x00\x00\x00\x00\x00\x05", minor: "0000001", prefix: "dev", at: map[int]string{508: "tar\x00"}}.String()),
		archive(pax('g', "comment=c"), file("f", "")),
	} {
		f.Add(a, uint16(512), false)
	}
	f.Fuzz(func(t *testing.T, data []byte, chunk uint16, mend bool) {
		if mend {
			data = mendChecksums(data)
		}
		if err := compare(data, int(chunk)+1); err != nil {
			t.Fatal(err)
		}
	})
}

// mendChecksums makes every block that is not zero a header with a right checksum,
// so far as the walk from header to body gets.
func mendChecksums(data []byte) []byte {
	data = bytes.Clone(data)
	for off := 0; off+blockSize <= len(data); {
		b := (*block)(data[off:])
		off += blockSize
		if b.sum() == 0 {
			continue
		}
		copy(b.checksum(), "        ")
		copy(b.checksum(), fmt.Sprintf("%06o\x00", b.sum()))
		if n, ok := number(b.size()); ok && n > 0 && n < int64(len(data)) {
			off += int(n + padding(n))
		}
	}
	return data
}

// FuzzRecordsAgainstArchiveTar has the fuzzer write the records of an extended
// header, one a line, so that their lengths are right.
func FuzzRecordsAgainstArchiveTar(f *testing.F) {
	for _, s := range []string{
		"path=p\nsize=3\nuid=5\ngid=-6\nmtime=-1.5\natime=+3",
		"SCHILY.xattr.user.a=b\nSCHILY.xattr.user.a=\nSCHILY.xattr.=c",
		"GNU.sparse.size=5\nGNU.sparse.numblocks=2\nGNU.sparse.offset=1\nGNU.sparse.numbytes=1\nGNU.sparse.offset=3\nGNU.sparse.numbytes=2",
		"GNU.sparse.map=0,1,4,2\nGNU.sparse.realsize=6\nGNU.sparse.numblocks=2\nGNU.sparse.name=real",
		"GNU.sparse.major=1\nGNU.sparse.minor=0\nGNU.sparse.realsize=6",
	} {
		f.Add(s, "abc", TypeReg)
	}
	f.Add("GNU.sparse.major=1\nGNU.sparse.minor=0\nGNU.sparse.realsize=6", body("2\n1\n1\n4\n2\n")+"abc", byte(0))
	f.Fuzz(func(t *testing.T, records, content string, typ byte) {
		r := raw{name: "f", typ: typ, size: octalSize(len(content))}
		if typ == 0 {
			r.typ = nul
		}
		if err := compare(archive(pax('x', strings.Split(records, "\n")...), r.String()+body(content), file("g", "x")), 512); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzChunks reads the same archive in one piece and in many.
func FuzzChunks(f *testing.F) {
	f.Add(archive(pax('x', "path=p"), file("f", "hello")), uint16(100))
	f.Fuzz(func(t *testing.T, data []byte, chunk uint16) {
		data = mendChecksums(data)
		a, errA := readAll(inChunksOf(data, len(data)+1), Limits{})
		b, errB := readAll(inChunksOf(data, int(chunk)+1), Limits{})
		if fmt.Sprint(errA) != fmt.Sprint(errB) || !slices.Equal(a, b) {
			t.Fatalf("%v, %v\n%v, %v", errA, errB, a, b)
		}
	})
}
