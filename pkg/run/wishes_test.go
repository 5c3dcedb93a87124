package run

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestCapabilitiesFollowDockersRules(t *testing.T) {
	all, err := availableCapabilities()
	if err != nil {
		t.Fatal(err)
	}
	fourteen := DefaultCapabilities()
	without := func(list []string, drop ...string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(c string) bool { return slices.Contains(drop, c) })
	}
	for _, c := range []struct {
		name      string
		add, drop []string
		want      []string
	}{
		{"nothing said", nil, nil, fourteen},
		{"one more", []string{"SYS_TIME"}, nil, append(slices.Clone(fourteen), "CAP_SYS_TIME")},
		{"with its prefix and in small letters", []string{"cap_sys_time"}, nil, append(slices.Clone(fourteen), "CAP_SYS_TIME")},
		{"one that is there", []string{"CHOWN"}, nil, fourteen},
		{"one less", nil, []string{"CHOWN"}, without(fourteen, "CAP_CHOWN")},
		{"all dropped", nil, []string{"ALL"}, nil},
		{"all dropped but one", []string{"CHOWN"}, []string{"ALL"}, []string{"CAP_CHOWN"}},
		{"all but one", []string{"ALL"}, []string{"CHOWN"}, without(all, "CAP_CHOWN")},
	} {
		s := DefaultSpec()
		w := Wishes{CapAdd: c.add, CapDrop: c.drop}
		if err := w.Apply(s); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		got := s.Process.Capabilities
		if !slices.Equal(sorted(got.Bounding), sorted(c.want)) || len(got.Inheritable)+len(got.Ambient) > 0 ||
			!slices.Equal(got.Bounding, got.Effective) || !slices.Equal(got.Bounding, got.Permitted) {
			t.Errorf("%s: %+v, want %v", c.name, got, c.want)
		}
	}
	w := Wishes{CapAdd: []string{"FLY"}}
	if err := w.Apply(DefaultSpec()); err == nil || !strings.Contains(err.Error(), "FLY") {
		t.Errorf("unknown capability: %v", err)
	}
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }

func TestVolumes(t *testing.T) {
	for word, want := range map[string]*specs.Mount{
		"/a:/b":             {Type: "bind", Source: "/a", Destination: "/b", Options: []string{"rbind"}},
		"/a/:/b/../c:ro":    {Type: "bind", Source: "/a", Destination: "/c", Options: []string{"rbind", "ro", "rro"}},
		"/a:/b:rw,noexec":   {Type: "bind", Source: "/a", Destination: "/b", Options: []string{"rbind", "noexec"}},
		"/a:/b:ro,rslave":   {Type: "bind", Source: "/a", Destination: "/b", Options: []string{"rbind", "ro", "rro", "rslave"}},
		"/a":                nil,
		"name:/b":           nil,
		"/a:b":              nil,
		"/a:/":              nil,
		"/a:/b/..":          nil,
		"/a:/b:z":           nil,
		"":                  nil,
		":/b":               nil,
		"/a:/b:remount,dev": nil,
	} {
		got, err := ParseVolume(word)
		if (err == nil) != (want != nil) || want != nil && !reflect.DeepEqual(got, *want) {
			t.Errorf("%q: %+v, %v; want %+v", word, got, err, want)
		}
	}
}

func TestLimitsThatCannotBeMeantAreRefused(t *testing.T) {
	for name, l := range map[string]Limits{
		"a byte of memory":      {Memory: 1},
		"less swap than memory": {Memory: 64 << 20, MemorySwap: 32 << 20},
		"a negative processor":  {CPUs: -1},
		"hardly a processor":    {CPUs: 0.001},
	} {
		w := Wishes{Limits: l}
		if err := w.Apply(DefaultSpec()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	s := DefaultSpec()
	w := Wishes{Limits: Limits{Memory: 64 << 20, CPUs: 0.5, Pids: 10}}
	if err := w.Apply(s); err != nil {
		t.Fatal(err)
	}
	r := s.Linux.Resources
	if *r.Memory.Limit != 64<<20 || *r.Memory.Swap != 128<<20 || *r.CPU.Quota != 50000 || *r.CPU.Period != 100000 || *r.Pids.Limit != 10 {
		t.Errorf("%+v %+v %+v", r.Memory, r.CPU, r.Pids)
	}
}

func TestSignals(t *testing.T) {
	for word, want := range map[string]int{"TERM": 15, "SIGTERM": 15, "sigkill": 9, "15": 15, "RTMIN": 34, "SIGRTMIN+3": 37, "RTMAX-1": 63, "64": 64, "0": 0, "65": 0, "-1": 0, "RTMIN+99": 0, "RTMIN-1": 0, "FOO": 0, "": 0} {
		got, err := ParseSignal(word)
		if int(got) != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %d, %v; want %d", word, got, err, want)
		}
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "A.b_c-9": true, strings.Repeat("a", 128): true,
		"": false, ".a": false, "-a": false, "..": false, "a/b": false, "a b": false, "a\n": false, "ä": false, strings.Repeat("a", 129): false,
	} {
		if got := validName(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}
