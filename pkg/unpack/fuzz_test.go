package unpack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"peel/pkg/layers/changeset"
)

// FuzzStackOfLayers compares with the reference, as the random stacks do, but lets
// the fuzzer find the way. Four bytes are an entry: its type, its name, and what
// it leads to; a type of 0xff begins a new layer.
func FuzzStackOfLayers(f *testing.F) {
	if os.Geteuid() != 0 {
		f.Skip("SKIPPED: needs root, for owners and devices")
	}
	for _, seed := range []string{
		"\x00\x01\x00\x00\x10\x11\x00\x00\xff\x00\x00\x00\x20\x01\x02\x00",
		"\x20\x01\x12\x00\xff\x00\x00\x00\x10\x11\x00\x00\x60\x12\x00\x00",
		"\x10\x01\x00\x00\xff\x00\x00\x00\x30\x02\x01\x00\x10\x01\x00\x00\x30\x03\x02\x00",
	} {
		f.Add([]byte(seed))
	}
	work := workDir(f)
	n := 0
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 400 {
			return
		}
		layers := stackOf(data)
		want, clear, wantErr := applyAll(layers)
		n++
		dir := filepath.Join(work, fmt.Sprint(os.Getpid(), "-", n))
		src, img := imageOfText(layers...)
		_, err := Image(context.Background(), src, img, dir, Options{Form: Rootfs})
		if err == nil {
			defer func() { must(removeAt(unix.AT_FDCWD, dir)) }()
		}
		if e := (*EntryError)(nil); err != nil && !errors.As(err, &e) {
			t.Fatalf("%v names no entry\n%s", err, strings.Join(layers, "--\n"))
		}
		switch {
		case !clear || err != nil && wantErr != nil:
		case err != nil || wantErr != nil:
			t.Fatalf("error %v, the reference says %v\n%s", err, wantErr, strings.Join(layers, "--\n"))
		default:
			if got := list(t, dir); got != want {
				t.Fatalf("%s\ngot:\n%s\nwant:\n%s", strings.Join(layers, "--\n"), got, want)
			}
		}
	})
}

func stackOf(data []byte) []string {
	layers := []string{""}
	for i := 0; i+4 <= len(data); i += 4 {
		if data[i] == 0xff {
			layers = append(layers, "")
			continue
		}
		path := func(b byte) string {
			var p []string
			for range 1 + b>>4&3 {
				p = append(p, string(rune('a'+b&3)))
				b = b>>2&3 | b&0xf0
			}
			return strings.Join(p, "/")
		}
		e := entry{name: path(data[i+1]), arg: path(data[i+2]), mode: 0o644, mtime: time.Unix(int64(i)+1, 0)}
		if data[i+2]&0x80 != 0 {
			e.arg = "/" + e.arg
		}
		dir, base := splitText(e.name)
		switch data[i] >> 4 {
		case 0, 1, 2:
			e.kind, e.mode, e.arg = "dir", []uint32{0o755, 0o2700, 0}[data[i]>>4], ""
		case 3, 4:
			e.kind, e.mode = "link", 0o777
		case 5, 6:
			e.kind = "hard"
		case 7:
			e.kind, e.name, e.arg = "file", joinPath(dir, changeset.WhiteoutPrefix+base), ""
		case 8:
			e.kind, e.name, e.arg = "file", joinPath(e.name, changeset.OpaqueName), ""
		case 9:
			e.kind, e.arg = "fifo", ""
		default:
			e.kind, e.arg = "file", fmt.Sprint("content", i)
		}
		layers[len(layers)-1] += e.String() + "\n"
	}
	return layers
}

// FuzzBytesAsALayer unpacks anything at all, over a layer with links that lead
// out. Whatever comes of it, the host is not touched and nothing is left behind.
func FuzzBytesAsALayer(f *testing.F) {
	work := workDir(f)
	host, untouched := newVictim(f, work)
	lower := tarOf(parse("dir d; link d/up ../../../victim; link abs " + host + "; file f 1"))
	for _, seed := range []string{
		"file abs/x evil; hard h abs/secret; file d/up/.wh.secret", "dir ../../victim mode=0777; link l " + host + "; file l/secret evil",
		"file .wh.d; dir d; file d/x 1", "link . " + host + "; file x 1",
	} {
		f.Add(tarOf(parse(seed)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<20 {
			return
		}
		place, err := os.MkdirTemp(work, "w")
		must(err)
		defer func() { must(removeAt(unix.AT_FDCWD, place)) }()
		dir := filepath.Join(place, "d")
		src, img := imageOf(lower, data)
		_, err = Image(context.Background(), src, img, dir, Options{Form: Rootfs, Limits: Limits{Bytes: 8 << 20}})
		untouched(t, "a layer of any bytes")
		if names := namesIn(place); err != nil && len(names) > 0 || err == nil && len(names) != 1 {
			t.Errorf("%v: left %v", err, names)
		}
	})
}
