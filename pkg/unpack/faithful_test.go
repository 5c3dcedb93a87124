package unpack

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"peel/pkg/layers"
)

// unpackTo unpacks entries as one layer, and as the upper of two, and returns the
// root of the former.
func unpackTo(t *testing.T, entries []entry) string {
	t.Helper()
	work := workDir(t)
	for i, tars := range [][][]byte{{tarOf(entries)}, {tarOf(nil), tarOf(entries)}} {
		src, img := imageOf(tars...)
		if _, err := Image(context.Background(), src, img, filepath.Join(work, fmt.Sprint(i)), Options{Form: Rootfs}); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(work, "0")
}

// TestMetadataComesBack: a tree is listed as the layer that it came from.
func TestMetadataComesBack(t *testing.T) {
	needRoot(t)
	deep := strings.Repeat(strings.Repeat("d", 200)+"/", 19) + strings.Repeat("f", 200)
	for _, c := range []struct{ name, layer string }{
		{"every mode", "dir a mode=7777; file b 1 mode=7777; file c 2 mode=0000; dir d mode=0000; file e 3 mode=4711; file f 4 mode=2755; file g 5 mode=1644; fifo h mode=0000; char i 1:3 mode=7666"},
		{"every type", "block a 8:17 own=0:6; char b 1:3 mode=0666; char c 0:0; dir d; fifo e; file f 1; link g nowhere own=3:4; link h /etc/passwd t=-5"},
		{"large device numbers", "char a 4095:1048575"},
		{"owners", "dir a own=1000:1000; file a/b 1 own=4294967294:4294967294; file c 2 own=0:7; file d 3 own=7:0; link e x own=1000:2; fifo f own=9:9"},
		{"set-id bits of other owners", "file a 1 mode=6755 own=1000:1000; dir b mode=2775 own=1000:50; file b/c 1 mode=4755 own=3:3; dir b/d"},
		{"times", "file a 1 t=1.000000001; file b 2 t=-1.5; file c 3 t=0; file d 4 t=4294967296; dir e t=1234567890.123456789; file e/f 1; link g x t=2.5; fifo h t=3.25"},
		{"names", `file "a b" 1; file "a\nb" 2; file "\xff\xfe" 3; file ".wh" 4; file "..." 5; file "-rf" 6; dir "x\x01y"; file "x\x01y/é" 7`},
		{"a path of 4000 bytes", "file " + deep + " 1"},
		{"attributes", "file a 1 x:user.a=1 x:trusted.b=2 x:security.c=3; dir d x:user.a=1; file r 1 mode=0400 own=5:5 x:user.b=2; link l x x:trusted.l=1; fifo p x:trusted.p=1"},
		{"three names of one file, two of a link and of a device", "dir d; file a 1 mode=4755 own=7:7; hard b a; hard d/c a; link l x; hard m l; char n 1:3; hard o n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := unpackTo(t, parse(c.layer))
			want := lines(c.layer)
			if !strings.Contains(c.layer, deep) {
				if got := withoutRoot(list(t, root)); got != want {
					t.Errorf("got:\n%s\nwant:\n%s", got, want)
				}
			} else if b, err := os.ReadFile(filepath.Join(root, deep)); err != nil || string(b) != "1" {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
}

// withoutRoot drops the root, which took its time from the first entry.
func withoutRoot(list string) string {
	if strings.HasPrefix(list, "dir . t=") {
		_, list, _ = strings.Cut(list, "\n")
	}
	return list
}

func TestAnIDOutOfRangeIsAWarning(t *testing.T) {
	work := workDir(t)
	for _, uid := range []int{-1, 1<<32 - 1, 1 << 32, 1 << 40} {
		e := parse("file a 1; file b 2")
		e[0].uid = uid
		src, img := imageOf(tarOf(e))
		var warn warnings
		if _, err := Image(context.Background(), src, img, filepath.Join(work, fmt.Sprint("d", uid)), Options{Progress: warn.add}); err != nil {
			t.Error(uid, err)
		}
		if os.Geteuid() == 0 && (len(warn.texts) != 1 || !strings.HasPrefix(warn.texts[0], "1 owners not restored, such as of entry a")) {
			t.Errorf("%d: %q", uid, warn.texts)
		}
	}
}

// TestFileCapabilitiesSurvive: chown(2) and write(2) both take them away.
func TestFileCapabilitiesSurvive(t *testing.T) {
	needRoot(t)
	// struct vfs_cap_data of revision 2, cap_net_raw permitted and effective
	value := binary.LittleEndian.AppendUint32(nil, 0x02000001)
	for _, word := range []uint32{1 << unix.CAP_NET_RAW, 0, 0, 0} {
		value = binary.LittleEndian.AppendUint32(value, word)
	}
	e := parse("file small 1 own=5:5 mode=0755; file large 2 own=5:5 mode=0755")
	e[1].arg = strings.Repeat("large", largeBytes)
	for i := range e {
		e[i].xattrs["security.capability"] = string(value)
	}
	root := unpackTo(t, e)
	for _, name := range []string{"small", "large"} {
		if got := xattrsOf(filepath.Join(root, name))["security.capability"]; got != string(value) {
			t.Errorf("%s: %x, want %x", name, got, value)
		}
	}
}

// TestOwnersWhereTheFileSystemChoosesGroups: mounted with grpid, a directory gives
// its group to what is made in it, whatever group the maker takes.
func TestOwnersWhereTheFileSystemChoosesGroups(t *testing.T) {
	needRoot(t)
	work := workDir(t)
	disk, mnt := filepath.Join(work, "disk"), filepath.Join(work, "mnt")
	must(os.WriteFile(disk, nil, 0o600))
	must(os.Truncate(disk, 16<<20))
	must(os.Mkdir(mnt, 0o755))
	if out, err := exec.Command("mkfs.ext4", "-q", disk).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: needs mkfs.ext4: %v %s", err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop,grpid", disk, mnt).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: needs to mount a loop device: %v %s", err, out)
	}
	defer unix.Unmount(mnt, unix.MNT_DETACH)
	layer := "dir d own=5:6 mode=2755; file d/a 1 own=7:8; file d/b 1 own=7:8; link d/c x own=9:10; dir d/e; file d/e/f 1; fifo p own=0:3"
	src, img := imageOfText(layer, "dir x/y own=1:2; file x/y/z 1 own=0:4")
	if _, err := Image(context.Background(), src, img, filepath.Join(mnt, "r"), Options{Form: Rootfs}); err != nil {
		t.Fatal(err)
	}
	if got, want := list(t, filepath.Join(mnt, "r")), lines(layer+"; dir x; dir x/y own=1:2; file x/y/z 1 own=0:4"); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// TestADefaultACLIsNotHandedDown: what a directory hands to new files is for those
// that come later, not for those of the image.
func TestADefaultACLIsNotHandedDown(t *testing.T) {
	needRoot(t)
	acl := binary.LittleEndian.AppendUint32(nil, 2) // struct posix_acl_xattr_header
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{1, 7, ^uint32(0)}, {2, 7, 1234}, {4, 7, ^uint32(0)}, {16, 7, ^uint32(0)}, {32, 7, ^uint32(0)}} {
		acl = binary.LittleEndian.AppendUint16(acl, e.tag)
		acl = binary.LittleEndian.AppendUint16(acl, e.perm)
		acl = binary.LittleEndian.AppendUint32(acl, e.id)
	}
	const attr = "system.posix_acl_default"
	probe := workDir(t)
	if err := unix.Setxattr(probe, attr, acl, 0); err != nil {
		t.Skipf("SKIPPED: needs a file system with ACLs: %v", err)
	}
	e := parse("dir d; file d/f 1 mode=0600; dir d/e mode=0700; file d/e/g 2")
	e[0].xattrs[attr] = string(acl)
	// The directory that all is made in has such a list too.
	src, img := imageOf(tarOf(e), tarOf(parse("file d/h 1 mode=0640; file d/i/j 2")))
	if _, err := Image(context.Background(), src, img, filepath.Join(probe, "r"), Options{Form: Rootfs}); err != nil {
		t.Fatal(err)
	}
	got := list(t, filepath.Join(probe, "r"))
	got = strings.ReplaceAll(got, attr+"="+string(acl), attr)
	want := "dir d x:" + attr + "\ndir d/e mode=0700\nfile d/e/g 2\nfile d/f 1 mode=0600\nfile d/h 1 mode=0640\ndir d/i\nfile d/i/j 2"
	if got != want {
		t.Errorf("got:\n%q\nwant:\n%q", got, want)
	}
}

func TestFilesOfEverySize(t *testing.T) {
	text := []byte(strings.Repeat("0123456789abcde\n", 1<<18)) // 4 MiB
	zeros := make([]byte, 4<<20)
	var e []entry
	add := func(b []byte) {
		e = append(e, entry{kind: "file", name: fmt.Sprintf("f%d", len(e)), arg: string(b), mode: 0o644, mtime: time.Unix(1, 0)})
	}
	for _, n := range []int{0, 1, 511, 512, 513, 4096, layers.ChunkSize - 512, layers.ChunkSize, layers.ChunkSize + 1, largeBytes - 1, largeBytes, largeBytes + 1, 3<<20 + 7} {
		add(text[:n])
		add(zeros[:n])
	}
	add(bytes.Join([][]byte{text[:1000], zeros, text[:1000]}, nil))
	add(bytes.Join([][]byte{zeros, text[:1]}, nil))
	add(bytes.Join([][]byte{text[:1], zeros}, nil))
	root := unpackTo(t, e)
	for _, f := range e {
		b, err := os.ReadFile(filepath.Join(root, f.name))
		if err != nil || string(b) != f.arg {
			t.Errorf("%s of %d bytes came back different (%d bytes, %v)", f.name, len(f.arg), len(b), err)
		}
	}
	var st unix.Stat_t
	must(unix.Stat(filepath.Join(root, e[len(e)-1].name), &st))
	if st.Blocks*512 > 1<<20 {
		t.Errorf("4 MiB of zeros take %d bytes on disk: want a hole", st.Blocks*512)
	}
}

// TestWhatTarPacksComesBack compares with GNU tar in all its formats, sparse files
// included.
func TestWhatTarPacksComesBack(t *testing.T) {
	needRoot(t)
	if out, err := exec.Command("tar", "--version").Output(); err != nil || !bytes.Contains(out, []byte("GNU tar")) {
		t.Skip("SKIPPED: needs GNU tar")
	}
	from := unpackTo(t, parse(`dir d mode=0711 own=1:2 t=1000000000; file d/a hello mode=04755 own=3:4 t=1000000001; link d/l a; hard d/h d/a; file empty t=5; fifo p; char c 1:3; file "odd\nname" 1;`+
		"dir "+strings.Repeat("long/", 60)+"; file "+strings.Repeat("long/", 60)+strings.Repeat("n", 120)+" deep"))
	f, err := os.Create(filepath.Join(from, "sparse"))
	must(err)
	for _, off := range []int64{0, 1 << 20, 5 << 20, 6<<20 + 4096} {
		_, err := f.WriteAt([]byte(fmt.Sprint("data at ", off)), off)
		must(err)
	}
	must(f.Truncate(8 << 20))
	must(f.Close())
	must(os.Chtimes(filepath.Join(from, "sparse"), time.Unix(7, 0), time.Unix(7, 0)))
	must(os.Chtimes(from, time.Unix(9, 0), time.Unix(9, 0)))
	want := list(t, from)
	for _, flags := range [][]string{{"--format=gnu"}, {"--format=posix"}, {"--format=gnu", "-S"}, {"--format=posix", "-S", "--sparse-version=0.0"},
		{"--format=posix", "-S", "--sparse-version=0.1"}, {"--format=posix", "-S", "--sparse-version=1.0"}, {"--format=oldgnu", "-S"}} {
		packed, err := exec.Command("tar", append(flags, "--numeric-owner", "-c", "-C", from, ".")...).Output()
		if err != nil {
			t.Fatal(flags, err)
		}
		src, img := imageOf(packed)
		dir := filepath.Join(workDir(t), "d")
		if _, err := Image(context.Background(), src, img, dir, Options{Form: Rootfs}); err != nil {
			t.Errorf("%v: %v", flags, err)
			continue
		}
		if got := list(t, dir); got != want {
			t.Errorf("%v: got:\n%.3000q\nwant:\n%.3000q", flags, got, want)
		}
	}
}
