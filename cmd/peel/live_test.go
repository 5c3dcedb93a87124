package main

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"peel/pkg/progress"
)

// screen is what a terminal shows after the bytes in b: it knows line feeds, the
// cursor's way up, and clearing down to the end, which is all that liveUI uses.
func screen(t *testing.T, b []byte) []string {
	t.Helper()
	var lines []string
	row := 0
	rest := string(b)
	up := regexp.MustCompile(`^\x1b\[(\d+)A`)
	for rest != "" {
		switch m := up.FindStringSubmatch(rest); {
		case m != nil:
			n, _ := strconv.Atoi(m[1])
			if row -= n; row < 0 {
				t.Fatalf("the cursor goes %d lines above the screen", -row)
			}
			rest = rest[len(m[0]):]
		case strings.HasPrefix(rest, "\r\x1b[J"):
			lines, rest = lines[:row], rest[4:]
		default:
			text, after, ok := strings.Cut(rest, "\n")
			if !ok || strings.ContainsAny(text, "\x1b\r") {
				t.Fatalf("unexpected output %q", rest)
			}
			lines, rest = append(lines[:row], text), after
			row++
		}
	}
	return lines
}

func TestLiveLines(t *testing.T) {
	a, b := digest.FromString("a"), digest.FromString("b")
	queued := []progress.Event{
		{Kind: progress.Queued, Digest: a, Total: 1000},
		{Kind: progress.Queued, Digest: b, Total: 2000},
	}
	for name, c := range map[string]struct {
		last   progress.Kind
		events []progress.Event
		want   []string // of each line, a part
	}{
		"layers wait in the manifest's order": {progress.Downloaded, nil,
			[]string{"latest: Pulling from web", short(a) + ": Waiting", short(b) + ": Waiting"}},
		"a layer shows what has arrived": {progress.Downloaded,
			[]progress.Event{{Kind: progress.Downloading, Digest: b, Current: 500, Total: 2000}},
			[]string{"Pulling", "Waiting", "Downloading  [======>                       ] 500B of 2kB"}},
		"a complete layer scrolls away above those in work": {progress.Downloaded,
			[]progress.Event{{Kind: progress.Downloaded, Digest: b, Total: 2000}},
			[]string{"Pulling", short(b) + ": Pull complete", short(a) + ": Waiting"}},
		"both bytes are shown while a layer is unpacked": {progress.Unpacked,
			[]progress.Event{{Kind: progress.Downloading, Digest: a, Current: 800, Total: 1000}, {Kind: progress.Unpacking, Digest: a, Current: 500, Total: 1000}},
			[]string{"Pulling", "Extracting   [==============>               ] 500B of 1kB, downloaded 800B", "Waiting"}},
		"a download does not complete a layer that is to be unpacked": {progress.Unpacked,
			[]progress.Event{{Kind: progress.Downloaded, Digest: a, Total: 1000}, {Kind: progress.Unpacked, Digest: b, Total: 2000}},
			[]string{"Pulling", short(b) + ": Pull complete", short(a) + ": Downloaded"}},
		"warnings stay": {progress.Downloaded,
			[]progress.Event{{Kind: progress.Warning, Message: "odd"}},
			[]string{"Pulling", "warning: odd", "Waiting", "Waiting"}},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			u := newLiveUI(&out, func() (int, int) { return 100, 20 }, c.last)
			u.line("latest: Pulling from web")
			for _, e := range append(queued[:len(queued):len(queued)], c.events...) {
				u.event(e)
			}
			u.redraw("") // whatever the throttle has held back
			got := screen(t, out.Bytes())
			if len(got) != len(c.want) {
				t.Fatalf("%d lines, want %d:\n%s", len(got), len(c.want), strings.Join(got, "\n"))
			}
			for i := range got {
				if !strings.Contains(got[i], c.want[i]) {
					t.Errorf("line %d is %q, want %q in it", i, got[i], c.want[i])
				}
			}
			u.close()
			for _, line := range screen(t, out.Bytes()) {
				if strings.Contains(line, "[") {
					t.Errorf("after close, %q is still there", line)
				}
			}
		})
	}
}

func TestLiveLinesFitTheTerminal(t *testing.T) {
	var out bytes.Buffer
	u := newLiveUI(&out, func() (int, int) { return 20, 10 }, progress.Downloaded)
	for i := range 100 {
		u.event(progress.Event{Kind: progress.Queued, Digest: digest.FromString(fmt.Sprint(i)), Total: 1 << 40})
	}
	u.redraw("")
	got := screen(t, out.Bytes())
	if len(got) != 8 || got[7] != "... and 93 more lay" {
		t.Errorf("%d lines, the last is %q", len(got), got[len(got)-1])
	}
	for _, line := range got {
		if len(line) > 19 {
			t.Errorf("%q is wider than the terminal", line)
		}
	}
}
