package userns

import (
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestSubordinateRanges(t *testing.T) {
	m := func(list ...uint32) (out []specs.LinuxIDMapping) {
		for c := range slices.Chunk(list, 3) {
			out = append(out, specs.LinuxIDMapping{ContainerID: c[0], HostID: c[1], Size: c[2]})
		}
		return out
	}
	for _, c := range []struct {
		name, file string
		want       []specs.LinuxIDMapping
	}{
		{"none", "", nil},
		{"by name", "ann:100000:65536\nbob:200000:65536\n", m(1, 200000, 65536)},
		{"by number", "1001:300000:10\n", m(1, 300000, 10)},
		{"two ranges lie end to end", "bob:200000:10\nann:1:1\nbob:400000:5\n", m(1, 200000, 10, 11, 400000, 5)},
		{"root's id is in no range", "bob:0:10\n", nil},
		{"not numbers", "bob:x:10\nbob:1:\nbob:-1:5\n", nil},
		{"past the last id", "bob:4294967290:10\nbob:1:4294967295\n", nil},
		{"no fields, too many", "bob\nbob:1:2:3\n:1:1\n", nil},
	} {
		if got := parseRanges(strings.NewReader(c.file), "bob", "1001"); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
