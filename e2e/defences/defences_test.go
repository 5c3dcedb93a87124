// Package defences shows that the tests of attacks would notice a defence that is
// gone: each is taken out in turn, and the test of its attack has to fail.
package defences

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// defences are what stands between an attack and the host: text of a file that is
// replaced, so that the defence is gone, and the test that has to notice.
var defences = []struct {
	claim     string
	file      string
	text      string
	gone      string
	pkg, test string
}{
	{
		"names are resolved inside the root", "internal/beneath/beneath.go",
		"return d.open(name, flags, perm, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS, inRoot)",
		"for len(name) > 1 && name[0] == '/' {\n\t\tname = name[1:]\n\t}\n\tif name == \"/\" {\n\t\tname = \".\"\n\t}\n\treturn d.open(name, flags, perm, 0, inRoot)",
		"pkg/run", "TestSwappedDestinationsNeverReachTheHost",
	},
	{
		"volumes are filled from inside the root", "internal/beneath/beneath.go",
		"return d.open(name, flags, perm, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS, inRoot)",
		"for len(name) > 1 && name[0] == '/' {\n\t\tname = name[1:]\n\t}\n\tif name == \"/\" {\n\t\tname = \".\"\n\t}\n\treturn d.open(name, flags, perm, 0, inRoot)",
		"pkg/run", "TestAVolumeIsNeverFilledFromTheHost",
	},
	{
		"own files are mounted inside the root", "internal/beneath/beneath.go",
		"return d.open(name, flags, perm, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS, inRoot)",
		"for len(name) > 1 && name[0] == '/' {\n\t\tname = name[1:]\n\t}\n\tif name == \"/\" {\n\t\tname = \".\"\n\t}\n\treturn d.open(name, flags, perm, 0, inRoot)",
		"pkg/run", "TestOwnFilesAreMountedInsideWhateverLinksThere",
	},
	{
		"system directories are real", "pkg/run/internal/guest/mounts.go",
		"func mustBeReal(m specs.Mount) bool {", "func mustBeReal(m specs.Mount) bool {\n\tif m.Type != \"\" {\n\t\treturn false\n\t}",
		"pkg/run", "TestLinksInPlaceOfSystemDirectoriesAreRefusedOrStayInside",
	},
	{
		"a device that is there is the one that is meant", "pkg/run/internal/guest/devices.go",
		"if st.Mode&unix.S_IFMT != kind || st.Rdev != rdev {\n\t\treturn &proto", "if false {\n\t\treturn &proto",
		"pkg/run", "TestMasksAreMadeOfTheHostsNull",
	},
	{
		"a working directory is inside the root", "pkg/run/internal/guest/process.go",
		"fd, err := p.root.open(cwd, unix.O_PATH|unix.O_DIRECTORY)", "fd, err := unix.Open(cwd, unix.O_PATH|unix.O_DIRECTORY, 0)\n\tunix.Fchdir(fd)\n\treturn nil",
		"pkg/run", "TestWorkingDirectoryCannotBeALeakedDescriptor",
	},
	{
		"what was left open does not come through", "pkg/run/internal/guest/exec.go",
		"unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)", "error(nil)",
		"pkg/run", "TestWorkingDirectoryCannotBeALeakedDescriptor",
	},
	{
		"our own program cannot be written to", "pkg/run/internal/selfexe/selfexe.go",
		"f, err := readOnlyMount()", "f, err := os.OpenFile(\"/proc/self/exe\", os.O_RDONLY, 0)",
		"pkg/run", "TestOwnBinaryCannotBeWritten",
	},
	{
		"a joiner is nothing before it is confined", "pkg/run/internal/guest/join.go",
		"if err := child.Isolate(); err != nil {", "if err := error(nil); err != nil {",
		"pkg/run", "TestJoiningGivesTheContainerNothing",
	},
	{
		"calls are filtered", "pkg/run/internal/guest/process.go",
		"if f == nil || len(f.Code) == 0 {", "if f == nil || len(f.Code) >= 0 {",
		"pkg/run", "TestContainerCannotWriteCgroupsOrMakeUserNamespaces",
	},
	{
		"cgroups are read-only", "pkg/bundle/defaults.go",
		`Source: "cgroup", Options: []string{"ro", `, `Source: "cgroup", Options: []string{`,
		"pkg/run", "TestContainerCannotWriteCgroupsOrMakeUserNamespaces",
	},
	{
		"a user's container has the cgroups read-only", "pkg/bundle/defaults.go",
		`Source: "cgroup", Options: []string{"ro", `, `Source: "cgroup", Options: []string{`,
		"pkg/run", "TestAUsersContainerCannotWriteCgroupsOfTheHost",
	},
	{
		"nothing is inheritable", "pkg/bundle/capabilities.go",
		"return &specs.LinuxCapabilities{Bounding: list, Effective: list, Permitted: list}",
		"return &specs.LinuxCapabilities{Bounding: list, Effective: list, Permitted: list, Inheritable: list}",
		"pkg/run", "TestNothingIsInheritableOrAmbient",
	},
	{
		"the host's groups are dropped, and the user's set", "pkg/run/internal/guest/creds.go",
		"unix.SYS_SETGROUPS, uintptr(len(groups))", "unix.SYS_SETGROUPS, uintptr(len(groups)*0)",
		"pkg/run", "TestUserStringsAreRefusedOrRight",
	},
	{
		"ids have an end", "internal/users/users.go",
		"return uint32(n), err == nil && n <= maxID", "return uint32(n), err == nil || n > maxID",
		"pkg/run", "TestUserStringsAreRefusedOrRight|TestUserStringsOfExecAreRefusedOrRight",
	},
	{
		"signs and leading zeros are no ids", "internal/users/users.go",
		"!isID || len(s) > 1 && s[0] == '0'", "!isID",
		"pkg/run", "TestUserStringsOfExecAreRefusedOrRight",
	},
	{
		"what tells about the host is masked", "pkg/run/internal/guest/masks.go",
		"for _, p := range g.Spec.Linux.MaskedPaths {", "for _, p := range g.Spec.Linux.MaskedPaths[:0] {",
		"pkg/run", "TestWhatTellsAboutTheHostIsHidden",
	},
	{
		"what steers the host is read-only", "pkg/run/internal/guest/masks.go",
		"for _, p := range g.Spec.Linux.ReadonlyPaths {", "for _, p := range g.Spec.Linux.ReadonlyPaths[:0] {",
		"pkg/run", "TestWhatTellsAboutTheHostIsHidden",
	},
	{
		"links in a volume's place are copied as links", "pkg/run/internal/guest/fill.go",
		"name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)", "name, unix.O_PATH|unix.O_CLOEXEC, 0)",
		"pkg/run", "TestAVolumeIsNeverFilledFromTheHost",
	},
	{
		"a declared volume is a place of the image", "pkg/bundle/volume.go",
		`at := path.Clean("/" + declared)`, "at := path.Clean(declared)",
		"pkg/bundle", "TestVolumesOfAnImage",
	},
	{
		"labels that steer a runtime are left out", "pkg/bundle/annotations.go",
		"if strings.HasPrefix(label, prefix) {", "if false && strings.HasPrefix(label, prefix) {",
		"pkg/bundle", "TestAnnotations",
	},
}

// TestDefencesAreMissed takes some minutes, and is for `make defences`.
func TestDefencesAreMissed(t *testing.T) {
	if os.Getenv("PEEL_DEFENCES") == "" {
		t.Skip("SKIPPED: takes minutes; PEEL_DEFENCES=1 runs it")
	}
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: the attacks need root")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range defences {
		t.Run(strings.ReplaceAll(d.claim, " ", "-"), func(t *testing.T) {
			file := filepath.Join(root, d.file)
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Count(string(source), d.text) != 1 {
				t.Fatalf("%s has %q %d times, want once", d.file, d.text, strings.Count(string(source), d.text))
			}
			dir := t.TempDir()
			without := filepath.Join(dir, filepath.Base(file))
			if err := os.WriteFile(without, []byte(strings.Replace(string(source), d.text, d.gone, 1)), 0o644); err != nil {
				t.Fatal(err)
			}
			overlay, err := json.Marshal(map[string]map[string]string{"Replace": {file: without}})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o644); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("go", "test", "-vet=off", "-count=1", "-timeout=120s", "-overlay="+filepath.Join(dir, "overlay.json"), "-run=^("+d.test+")$", "./"+d.pkg)
			cmd.Dir = root
			out, err := cmd.CombinedOutput()
			switch text := string(out); {
			case strings.Contains(text, "[build failed]"), strings.Contains(text, "[setup failed]"):
				t.Fatalf("does not compile:\n%s", text)
			case err == nil && strings.Contains(text, "SKIPPED"):
				t.Skipf("SKIPPED: so is the attack:\n%s", text)
			case err == nil:
				t.Errorf("%s notices nothing:\n%s", d.test, text)
			case !strings.Contains(text, "--- FAIL"):
				t.Errorf("something else went wrong:\n%s", text)
			}
		})
	}
}
