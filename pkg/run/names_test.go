package run

import (
	"strings"
	"testing"
)

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
