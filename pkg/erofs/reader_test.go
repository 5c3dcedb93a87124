package erofs

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	reader "github.com/erofs/go-erofs"
	"golang.org/x/sys/unix"
)

func TestAnIndependentReaderReadsWhatWasWritten(t *testing.T) {
	for _, c := range trees {
		for _, k := range kinds {
			t.Run(k.name+"/"+c.name, func(t *testing.T) {
				tree := newTree()
				c.make(tree)
				img := tree.write(t, k.write)
				checkStructure(t, img, tree)
				got := readBack(t, img, tree.devices())
				if want := tree.shapes(t); got != want {
					t.Error(firstDifference(got, want))
				}
			})
		}
	}
}

// readBack lists an image as go-erofs reads it.
func readBack(tb testing.TB, img []byte, devices []Device) string {
	tb.Helper()
	var opts []reader.OpenOpt
	if le.Uint16(img[superOffset+86:]) > 0 {
		for _, d := range devices {
			opts = append(opts, reader.WithExtraDevices(d.Bytes))
		}
	}
	fsys, err := reader.Open(bytes.NewReader(img), opts...)
	if err != nil {
		tb.Fatal(err)
	}
	var lines []string
	var visit func(path string)
	visit = func(path string) {
		fi, err := fs.Lstat(fsys, path)
		if err != nil {
			tb.Fatal(err)
		}
		st := fi.Sys().(*reader.Stat)
		s := shape{mode: unixMode(st.Mode), uid: st.UID, gid: st.GID, sec: int64(st.Mtime), nsec: st.MtimeNs,
			links: st.Nlink, size: st.Size, rdev: Rdev{unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))}, xattrs: map[string]string{}}
		for name, value := range st.Xattrs {
			// This reader puts a dot behind the names of access control lists.
			s.xattrs[strings.TrimSuffix(name, ".")] = value
		}
		if path != "." {
			s.path = "/" + path
		}
		switch s.mode & typeMask {
		case typeRegular:
			f, err := fsys.Open(path)
			if err != nil {
				tb.Fatal(err)
			}
			s.sum = sumOf(tb, f)
			f.Close()
		case typeSymlink:
			if s.target, err = fs.ReadLink(fsys, path); err != nil {
				tb.Fatal(err)
			}
		case typeDir:
			entries, err := fs.ReadDir(fsys, path)
			if err != nil {
				tb.Fatal(err)
			}
			for _, e := range entries {
				if path == "." {
					visit(e.Name())
				} else {
					visit(path + "/" + e.Name())
				}
			}
		}
		lines = append(lines, s.String())
	}
	visit(".")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func unixMode(m fs.FileMode) uint32 {
	mode := uint32(m.Perm())
	for bit, to := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if m&bit != 0 {
			mode |= to
		}
	}
	switch m.Type() {
	case fs.ModeDir:
		return mode | typeDir
	case fs.ModeSymlink:
		return mode | typeSymlink
	case fs.ModeDevice | fs.ModeCharDevice:
		return mode | typeChar
	case fs.ModeDevice:
		return mode | typeBlock
	case fs.ModeNamedPipe:
		return mode | typeFifo
	case fs.ModeSocket:
		return mode | typeSocket
	}
	return mode | typeRegular
}

func TestTheKernelReadsWhatWasWritten(t *testing.T) {
	for _, c := range trees {
		for _, k := range kinds {
			t.Run(k.name+"/"+c.name, func(t *testing.T) {
				tree := newTree()
				c.make(tree)
				dir := t.TempDir()
				writeFile(t, dir+"/device", tree.data)
				writeFile(t, dir+"/image", tree.write(t, k.write))
				var devices []string
				if k.name == "index" {
					devices = []string{dir + "/device"}
				}
				got := listMounted(t, mount(t, dir+"/image", devices...))
				if want := tree.shapes(t); got != want {
					t.Error(firstDifference(got, want))
				}
			})
		}
	}
}

func writeFile(tb testing.TB, path string, b []byte) {
	tb.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		tb.Fatal(err)
	}
}

// mount mounts an image where nobody else sees it, and returns a path to it that
// ends with the test. It skips the test where that cannot be.
func mount(tb testing.TB, image string, devices ...string) string {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("SKIPPED: needs root, to mount")
	}
	var u unix.Utsname
	var major, minor int
	if err := unix.Uname(&u); err != nil {
		tb.Fatal(err)
	}
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); err != nil || major < 6 || major == 6 && minor < 13 {
		tb.Skip("SKIPPED: needs Linux 6.13, which mounts files of small blocks without harm")
	}
	fd, err := unix.Fsopen("erofs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		tb.Skipf("SKIPPED: needs EROFS in the kernel and CAP_SYS_ADMIN: %v", err)
	}
	defer unix.Close(fd)
	err = unix.FsconfigSetString(fd, "source", image)
	for _, d := range devices {
		if err == nil {
			err = unix.FsconfigSetString(fd, "device", d)
		}
	}
	if err == nil {
		err = unix.FsconfigCreate(fd)
	}
	if err == unix.ENOTBLK || err == unix.EPERM {
		tb.Skipf("SKIPPED: needs EROFS mounts backed by files, in the initial user namespace: %v", err)
	}
	log := make([]byte, 4096)
	if err != nil {
		n, _ := unix.Read(fd, log)
		tb.Fatalf("mount: %v: %s", err, log[:max(n, 0)])
	}
	mfd, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { unix.Close(mfd) })
	return fmt.Sprintf("/proc/self/fd/%d/", mfd)
}

// listMounted lists a mounted image as the kernel shows it.
func listMounted(tb testing.TB, root string) string {
	tb.Helper()
	var lines []string
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		if st.Ino == 0 {
			tb.Errorf("%s has no inode number", path)
		}
		s := shape{mode: st.Mode, uid: st.Uid, gid: st.Gid, sec: st.Mtim.Sec, nsec: uint32(st.Mtim.Nsec), links: int(st.Nlink),
			size: st.Size, rdev: Rdev{unix.Major(st.Rdev), unix.Minor(st.Rdev)}, xattrs: xattrsOf(tb, path)}
		if path != root {
			s.path = "/" + strings.TrimPrefix(path, root)
		}
		switch s.mode & typeMask {
		case typeRegular:
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			s.sum = sumOf(tb, f)
		case typeSymlink:
			if s.target, err = os.Readlink(path); err != nil {
				return err
			}
		}
		lines = append(lines, s.String())
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func xattrsOf(tb testing.TB, path string) map[string]string {
	tb.Helper()
	list, value := make([]byte, 64<<10), make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, list)
	if err != nil {
		tb.Fatalf("%s: list attributes: %v", path, err)
	}
	m := map[string]string{}
	for name := range strings.SplitSeq(string(list[:n]), "\x00") {
		if name == "" {
			continue
		}
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			tb.Fatalf("%s: attribute %s: %v", path, name, err)
		}
		m[name] = string(value[:n])
	}
	return m
}

// TestFsckFindsNothingToSay runs the checker of erofs-utils, which reads all that
// there is. Up to 1.5 it knows no blocks smaller than a page.
func TestFsckFindsNothingToSay(t *testing.T) {
	fsck, err := exec.LookPath("fsck.erofs")
	if err != nil {
		t.Skip("SKIPPED: needs fsck.erofs")
	}
	version, err := exec.Command(fsck, "-V").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, version)
	}
	old := regexp.MustCompile(`\b1\.[0-5]\b`).Match(version)
	check := func(args ...string) string { // its exit code alone does not tell
		out, err := exec.Command(fsck, append([]string{"--extract"}, args...)...).CombinedOutput()
		if err != nil {
			return err.Error() + ": " + string(out)
		}
		return string(out)
	}
	for _, c := range trees {
		for _, k := range kinds {
			t.Run(k.name+"/"+c.name, func(t *testing.T) {
				tree := newTree()
				c.make(tree)
				dir := t.TempDir()
				writeFile(t, dir+"/image", tree.write(t, k.write))
				var args []string
				if k.name == "index" {
					if old {
						t.Skip("SKIPPED: needs fsck.erofs 1.6, for blocks of 512 bytes")
					}
					writeFile(t, dir+"/device", tree.data)
					args = []string{"--device=" + dir + "/device"}
				}
				if out := check(append(args, dir+"/image")...); out != "" {
					t.Error(out)
				}
			})
		}
	}
	t.Run("but to a broken image", func(t *testing.T) {
		tree := newTree()
		tree.dir("d")
		b := tree.write(t, WriteImage)
		b[tree.root.Entries[0].Inode.pos+8] ^= 0xff // the directory's size
		path := t.TempDir() + "/image"
		writeFile(t, path, b)
		if check(path) == "" {
			t.Error("nothing said")
		}
	})
}

// firstDifference shows the first line that is not the same.
func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for n := range max(len(g), len(w)) {
		switch {
		case n >= len(g):
			return "is missing: " + w[n]
		case n >= len(w):
			return "should not be there: " + g[n]
		case g[n] != w[n]:
			return "got:\n" + g[n] + "\nwant:\n" + w[n]
		}
	}
	return ""
}
