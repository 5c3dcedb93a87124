package bundle

import (
	"slices"
	"strings"
	"testing"
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
		s := Default()
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
	if err := w.Apply(Default()); err == nil || !strings.Contains(err.Error(), "FLY") {
		t.Errorf("unknown capability: %v", err)
	}
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }

func TestLimitsThatCannotBeMeantAreRefused(t *testing.T) {
	for name, l := range map[string]Limits{
		"a byte of memory":      {Memory: 1},
		"less swap than memory": {Memory: 64 << 20, MemorySwap: 32 << 20},
		"a negative processor":  {CPUs: -1},
		"hardly a processor":    {CPUs: 0.001},
	} {
		w := Wishes{Limits: l}
		if err := w.Apply(Default()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	s := Default()
	w := Wishes{Limits: Limits{Memory: 64 << 20, CPUs: 0.5, Pids: 10}}
	if err := w.Apply(s); err != nil {
		t.Fatal(err)
	}
	r := s.Linux.Resources
	if *r.Memory.Limit != 64<<20 || *r.Memory.Swap != 128<<20 || *r.CPU.Quota != 50000 || *r.CPU.Period != 100000 || *r.Pids.Limit != 10 {
		t.Errorf("%+v %+v %+v", r.Memory, r.CPU, r.Pids)
	}
}
