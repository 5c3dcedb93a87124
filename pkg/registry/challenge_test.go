package registry

import (
	"slices"
	"strings"
	"testing"
)

func TestParseChallenges(t *testing.T) {
	for in, want := range map[string]string{
		`Bearer realm="https://a/token",service="s",scope="repository:x:pull,push"`: `bearer{realm=https://a/token scope=repository:x:pull,push service=s}`,
		`bearer REALM="https://a"`:                    `bearer{realm=https://a}`,
		`Basic realm="a \"b\", c"`:                    `basic{realm=a "b", c}`,
		`Negotiate, Basic realm=x`:                    `negotiate{} basic{realm=x}`,
		`Negotiate YWJj==, Bearer realm="u"`:          `negotiate{} bearer{realm=u}`,
		`Bearer realm = "u" , service = v`:            `bearer{realm=u service=v}`,
		`Bearer realm="u",realm="evil"`:               `bearer{realm=u}`,
		`Bearer realm="never ends`:                    `bearer{}`,
		`Basic realm="a"` + "\n" + `Bearer realm="b"`: `basic{realm=a} bearer{realm=b}`,
		``:    ``,
		`,,=`: ``,
	} {
		if got := format(parseChallenges(strings.Split(in, "\n"))); got != want {
			t.Errorf("%s\nis read as %s\nwant       %s", in, got, want)
		}
	}
}

func format(cs []challenge) string {
	var out []string
	for _, c := range cs {
		var ps []string
		for k, v := range c.params {
			ps = append(ps, k+"="+v)
		}
		slices.Sort(ps)
		out = append(out, c.scheme+"{"+strings.Join(ps, " ")+"}")
	}
	return strings.Join(out, " ")
}

func FuzzParseChallenges(f *testing.F) {
	for _, s := range []string{`Bearer realm="https://a/token",service="s"`, `Negotiate YWJj==, Basic realm=x`, `A b="\"", c=d,, E`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, c := range parseChallenges([]string{s}) {
			if c.scheme == "" || c.scheme != strings.ToLower(c.scheme) {
				t.Fatalf("scheme %q", c.scheme)
			}
		}
	})
}
