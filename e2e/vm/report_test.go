package vm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// event is what test2json says of a test.
type event struct {
	Action, Test, Output string
	Elapsed              float64
}

// report makes the results of the machine's tests those of subtests here.
func (s *suite) report(t *testing.T, out *bytes.Buffer, code int) {
	cmd := exec.CommandContext(t.Context(), "go", "tool", "test2json", "-t") // -t for Elapsed
	cmd.Stdin = bytes.NewReader(out.Bytes())
	converted, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]*strings.Builder{}
	results := map[string]event{}
	var order []string
	for dec := json.NewDecoder(bytes.NewReader(converted)); ; {
		var e event
		if err := dec.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(e.Test, "/")
		switch e.Action {
		case "run":
			if name == e.Test {
				order = append(order, name)
			}
		case "output":
			if said[name] == nil {
				said[name] = &strings.Builder{}
			}
			said[name].WriteString(e.Output)
		case "pass", "fail", "skip":
			results[e.Test] = e
		}
	}
	for _, name := range order {
		t.Run(name, func(t *testing.T) {
			r, ended := results[name]
			switch {
			case !ended:
				t.Errorf("has not ended\n%s", said[name])
			case r.Action == "fail":
				t.Errorf("in the machine:\n%s", said[name])
			case r.Action == "skip":
				t.Skip(said[name])
			default:
				t.Logf("%.1f s in the machine", r.Elapsed)
			}
		})
	}
	for _, must := range s.shown {
		r, there := results[must]
		switch name, _, _ := strings.Cut(must, "/"); {
		case there && r.Action == "skip":
			t.Errorf("%s must not be skipped here:\n%s", must, said[name])
		case !there && *inside == "":
			t.Errorf("%s is not there", must)
		}
	}
	if code != 0 || len(order) == 0 && *inside == "" {
		var rest fmt.Stringer = &strings.Builder{}
		if said[""] != nil {
			rest = said[""]
		}
		t.Errorf("exit code %d, %d tests\n%s", code, len(order), rest)
	}
}
