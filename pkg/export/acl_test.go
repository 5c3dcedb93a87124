package export

import (
	"strings"
	"testing"
)

func TestACLAsText(t *testing.T) {
	const head, none = "\x02\x00\x00\x00", "\xff\xff\xff\xff"
	for _, tc := range []struct{ claim, list, want string }{
		{"each tag has its name", head + "\x01\x00\x06\x00" + none + "\x02\x00\x05\x00\xe8\x03\x00\x00" + "\x04\x00\x04\x00" + none +
			"\x08\x00\x00\x00\x21\x00\x00\x00" + "\x10\x00\x07\x00" + none + "\x20\x00\x01\x00" + none,
			"user::rw-,user:1000:r-x,group::r--,group:33:---,mask::rwx,other::--x"},
		{"an empty list is nothing", head, ""},
		{"one of another version is nothing", "\x01\x00\x00\x00\x01\x00\x06\x00" + none, ""},
		{"one that is cut off is nothing", head + "\x01\x00\x06\x00\xff\xff\xff", ""},
		{"one with an unknown tag is nothing", head + "\x01\x00\x06\x00" + none + "\x40\x00\x06\x00" + none, ""},
		{"a permission that there is not", head + "\x01\x00\x08\x00" + none, ""},
		{"an id where there is none", head + "\x01\x00\x06\x00\x00\x00\x00\x00", ""},
		{"no id where there is one", head + "\x02\x00\x06\x00" + none, ""},
		{"too short for anything", "\x02\x00", ""},
	} {
		if got := string(appendACL([]byte("before "), []byte(tc.list))); got != "before "+tc.want {
			t.Errorf("%s: %q, want %q", tc.claim, strings.TrimPrefix(got, "before "), tc.want)
		}
	}
}

func FuzzACL(f *testing.F) {
	f.Add([]byte("\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff"))
	f.Add([]byte("\x02\x00\x00\x00\x02\x00\x06\x00\x01\x00\x00\x00\x20\x00\x00\x00\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, list []byte) {
		text := appendACL(nil, list)
		if n := strings.Count(string(text), ","); len(text) > 0 && n+1 != len(list[4:])/8 {
			t.Errorf("%q: %q", list, text)
		}
	})
}
