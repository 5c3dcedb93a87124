package commit

import (
	"encoding/json"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestChanges(t *testing.T) {
	for _, tc := range []struct {
		claim, before string
		changes       []string
		want          string
	}{
		{"CMD takes a list", `{"Cmd":["old"]}`, []string{`CMD ["a","b c"]`}, `{"Cmd":["a","b c"]}`},
		{"CMD takes a line for the shell", `{}`, []string{`CMD echo "$HOME"`}, `{"Cmd":["/bin/sh","-c","echo \"$HOME\""]}`},
		{"the name may be in lower case", `{}`, []string{`  cmd  ["a"] `}, `{"Cmd":["a"]}`},
		{"ENTRYPOINT drops the old arguments", `{"Entrypoint":["e"],"Cmd":["old"]}`, []string{`ENTRYPOINT ["x"]`}, `{"Entrypoint":["x"]}`},
		{"but not new ones", `{"Cmd":["old"]}`, []string{`CMD ["new"]`, `ENTRYPOINT ["x"]`}, `{"Entrypoint":["x"],"Cmd":["new"]}`},
		{"an empty list takes away", `{"Cmd":["old"],"Entrypoint":["e"]}`, []string{`CMD []`, `ENTRYPOINT []`}, `{}`},
		{"ENV sets and replaces in place", `{"Env":["A=1","B=2"]}`, []string{`ENV A=x C="d e" D=f\ g E='h"i'`}, `{"Env":["A=x","B=2","C=d e","D=f g","E=h\"i"]}`},
		{"ENV takes the old form", `{}`, []string{`ENV A  b = c`}, `{"Env":["A=b = c"]}`},
		{"LABEL", `{"Labels":{"a":"1"}}`, []string{`LABEL a=2 "b c"=d`, `LABEL e=`}, `{"Labels":{"a":"2","b c":"d","e":""}}`},
		{"EXPOSE", `{"ExposedPorts":{"80/tcp":{}}}`, []string{`EXPOSE 443 53/UDP 8000-8001/sctp`},
			`{"ExposedPorts":{"443/tcp":{},"53/udp":{},"80/tcp":{},"8000/sctp":{},"8001/sctp":{}}}`},
		{"VOLUME takes a list", `{}`, []string{`VOLUME ["/a b","/c"]`}, `{"Volumes":{"/a b":{},"/c":{}}}`},
		{"VOLUME takes words", `{"Volumes":{"/a":{}}}`, []string{`VOLUME /b "/c d"`}, `{"Volumes":{"/a":{},"/b":{},"/c d":{}}}`},
		{"USER", `{"User":"a"}`, []string{`USER 1000:33`}, `{"User":"1000:33"}`},
		{"WORKDIR goes on from the last", `{}`, []string{`WORKDIR /a/`, `WORKDIR b/../c`}, `{"WorkingDir":"/a/c"}`},
		{"WORKDIR does not leave the root", `{}`, []string{`WORKDIR ../..`}, `{"WorkingDir":"/"}`},
		{"STOPSIGNAL", `{}`, []string{`STOPSIGNAL SIGQUIT`}, `{"StopSignal":"SIGQUIT"}`},
	} {
		t.Run(tc.claim, func(t *testing.T) {
			var c, want ocispec.ImageConfig
			for s, v := range map[string]*ocispec.ImageConfig{tc.before: &c, tc.want: &want} {
				if err := json.Unmarshal([]byte(s), v); err != nil {
					t.Fatal(err)
				}
			}
			var state changeState
			for _, line := range tc.changes {
				change, err := ParseChange(line)
				if err != nil {
					t.Fatal(err)
				}
				change(&c, &state)
			}
			got, _ := json.Marshal(c)
			if w, _ := json.Marshal(want); string(got) != string(w) {
				t.Errorf("got  %s\nwant %s", got, w)
			}
		})
	}
}

func TestChangesThatAreRefused(t *testing.T) {
	for line, says := range map[string]string{
		"":                      "want CMD",
		"RUN true":              "want CMD",
		"ONBUILD USER x":        "want CMD",
		"CMD":                   "nothing follows CMD",
		"USER   ":               "nothing follows USER",
		"USER a b":              "want one word",
		`USER "a`:               `no second "`,
		`USER a\`:               "nothing follows the last backslash",
		"ENV A":                 "want NAME=VALUE",
		"ENV A=b c":             `"c": want NAME=VALUE`,
		"ENV =b":                `"=b": want NAME=VALUE`,
		"EXPOSE 70000":          `"70000": want PORT`,
		"EXPOSE 5-4":            `"5-4": want PORT`,
		"EXPOSE 80/icmp":        `"80/icmp": want PORT`,
		"EXPOSE http":           `"http": want PORT`,
		"STOPSIGNAL SIG TERM":   "want one word",
		"WORKDIR /with a space": "want one word",
	} {
		if _, err := ParseChange(line); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", line, err, says)
		}
	}
}

func FuzzParseChange(f *testing.F) {
	for _, line := range []string{`CMD ["a"]`, `ENV A=b "C D"=e`, `ENV A b`, `LABEL 'a'="b\"c"`, `EXPOSE 80 1-3/udp`, `VOLUME ["/a"]`, `WORKDIR a`, `USER \`} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		change, err := ParseChange(line)
		if err != nil {
			return
		}
		var c ocispec.ImageConfig
		change(&c, &changeState{})
		if _, err := json.Marshal(c); err != nil {
			t.Errorf("%q: %v", line, err)
		}
		for _, v := range c.Env {
			if strings.HasPrefix(v, "=") || !strings.Contains(v, "=") {
				t.Errorf("%q: variable %q", line, v)
			}
		}
		if c.WorkingDir != "" && c.WorkingDir[0] != '/' {
			t.Errorf("%q: working directory %q", line, c.WorkingDir)
		}
	})
}
