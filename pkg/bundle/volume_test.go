package bundle

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// line is a mount as "type source destination options".
func line(m specs.Mount) string {
	return strings.Join([]string{m.Type, m.Source, m.Destination, strings.Join(m.Options, ",")}, " ")
}

func testParser(t *testing.T, parse func(string) (specs.Mount, error), want map[string]string) {
	t.Helper()
	for word, want := range want {
		got, err := parse(word)
		if (err == nil) != (want != "") || want != "" && line(got) != want {
			t.Errorf("%q: %q, %v; want %q", word, line(got), err, want)
		}
	}
}

func TestVolumes(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	testParser(t, ParseVolume, map[string]string{
		"/a:/b":             "bind /a /b rbind",
		"./x:/b":            "bind " + here + "/x /b rbind",
		"/a/:/b/../c:ro":    "bind /a /c rbind,ro,rro",
		"/a:/b:rw,noexec":   "bind /a /b rbind,noexec",
		"/a:/b:ro,rslave":   "bind /a /b rbind,ro,rro,rslave",
		"/a:/b:cached":      "bind /a /b rbind",
		"/a":                "volume  /a rbind",
		"name:/b":           "volume name /b rbind",
		"name:/b:ro,nocopy": "volume name /b rbind,ro,rro,nocopy",
		"/a:/b:nocopy":      "",
		"/a:b":              "",
		"b":                 "",
		"/a:/":              "",
		"/a:/b/..":          "",
		"":                  "",
		":/b":               "",
		"/":                 "",
		"/a:/b:ro:x":        "",
		"/a:/b:remount,dev": "",
	})
	if relabel() == nil {
		testParser(t, ParseVolume, map[string]string{"/a:/b:z": "bind /a /b rbind", "v:/b:Z,ro": "volume v /b rbind,ro,rro"})
	}
}

func TestMounts(t *testing.T) {
	testParser(t, ParseMount, map[string]string{
		"type=bind,source=/a,target=/b":                            "bind /a /b rbind",
		"src=/a,dst=/b,type=bind,readonly,bind-propagation=rslave": "bind /a /b rbind,ro,rro,rslave",
		"type=bind,source=/a,destination=/b,ro=false":              "bind /a /b rbind",
		"target=/b":                           "volume  /b rbind",
		"source=data,target=/b,volume-nocopy": "volume data /b rbind,nocopy",
		"type=tmpfs,target=/t,tmpfs-size=64m,tmpfs-mode=1770,readonly": "tmpfs tmpfs /t nosuid,nodev,noexec,size=67108864,mode=1770,ro",
		"type=bind,target=/b":                                    "",
		"type=bind,source=a,target=/b":                           "",
		"type=bind,source=/a":                                    "",
		"type=npipe,source=/a,target=/b":                         "",
		"type=tmpfs,source=/a,target=/b":                         "",
		"type=bind,source=/a,target=/b,tmpfs-size=1m":            "",
		"type=tmpfs,target=/b,tmpfs-mode=9":                      "",
		"type=tmpfs,target=/b,tmpfs-size=lots":                   "",
		"type=bind,source=/a,target=/b,bind-propagation=remount": "",
		"type=bind,source=/a,target=/b,volume-nocopy":            "",
		"type=bind,source=/a,target=/b,suid":                     "",
		"":                                                       "",
	})
	testParser(t, ParseTmpfs, map[string]string{
		"/t": "tmpfs tmpfs /t nosuid,nodev,noexec", "/t:size=1m,exec": "tmpfs tmpfs /t nosuid,nodev,noexec,size=1m,exec", "t": "", "/": "",
	})
}

func TestAMountStandsBeforeThoseBelowIt(t *testing.T) {
	spec := &specs.Spec{Mounts: []specs.Mount{{Destination: "/proc"}, {Destination: "/dev"}, {Destination: "/dev/shm"}}}
	for _, d := range []string{"/dev/shm/x/", "/data/a", "/data", "/devices", "/dev"} {
		spec.Mounts = place(spec.Mounts, specs.Mount{Destination: d, Type: "new"})
	}
	var got []string
	for _, m := range spec.Mounts {
		got = append(got, m.Destination+m.Type)
	}
	if want := "[/proc /devnew /dev/shm /dev/shm/x/new /datanew /data/anew /devicesnew]"; fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
}

// CVE-2022-23648: what an image declares is a place inside it.
func TestVolumesOfAnImage(t *testing.T) {
	spec := &specs.Spec{Mounts: []specs.Mount{{Destination: "/var/cache", Type: "tmpfs"}}}
	PlaceVolumes(spec, ocispec.ImageConfig{Volumes: map[string]struct{}{
		"/data": {}, "data/": {}, "../../etc": {}, "/": {}, "": {}, "/..": {}, "/var/cache/": {}, "/var": {},
	}})
	want := []specs.Mount{
		{Destination: "/var", Type: TypeVolume}, {Destination: "/var/cache", Type: "tmpfs"},
		{Destination: "/etc", Type: TypeVolume}, {Destination: "/data", Type: TypeVolume},
	}
	if len(spec.Mounts) != len(want) {
		t.Fatalf("%+v", spec.Mounts)
	}
	have := map[string]bool{}
	for _, m := range spec.Mounts {
		have[line(m)] = true
	}
	for _, m := range want {
		if !have[line(m)] {
			t.Errorf("no %+v in %+v", m, spec.Mounts)
		}
	}
	if reflect.DeepEqual(spec.Mounts[0], want[1]) {
		t.Error("/var would cover /var/cache")
	}
}
