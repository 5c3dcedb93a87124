package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

var sampleReport = report{
	Machine: "2 CPUs", CPUs: 2, FileSystem: "ext4", Versions: []string{"peel 1", "other 2"}, Rounds: 3,
	Tasks: []taskResult{{Image: "nginx", Task: "pull & unpack", Tools: []toolResult{
		{"peel", []sample{{Wall: 1, CPU: 2, RSS: 30}, {Wall: 2, CPU: 2, RSS: 31}, {Wall: 3, CPU: 2, RSS: 29}}},
		{"other", []sample{{Wall: 2, CPU: 4, RSS: 60}, {Wall: 6, CPU: 4, RSS: 60}, {Wall: 12, CPU: 4, RSS: 60}}},
	}}},
}

// The ratio is that of runs side by side: here 2, 3 and 4, though the medians
// are 2 and 6 of other rounds.
func TestRatioIsTheMedianOfRounds(t *testing.T) {
	tools := sampleReport.Tasks[0].Tools
	if got := tools[1].ratio(tools[0], wall); got != 3 {
		t.Errorf("ratio %v, want 3", got)
	}
	if got := median([]float64{4, 1, 3, 2}); got != 2.5 {
		t.Errorf("median %v, want 2.5", got)
	}
}

func TestTableHasARowForEachTool(t *testing.T) {
	var b strings.Builder
	sampleReport.print(&b)
	for _, row := range []string{
		"| nginx: pull & unpack | wall s | ratio | CPU s | ratio | peak MB |",
		"| peel | 2.00 | 1.00 | 2.00 | 1.00 | 30 |",
		"| other | 6.00 | 3.00 | 4.00 | 2.00 | 60 |",
		"The floor of peel, its CPU over 2 cores: 1.00 s; it is 2.00 times that.",
	} {
		if !strings.Contains(b.String(), row+"\n") {
			t.Errorf("no row %q in\n%s", row, b.String())
		}
	}
}

func TestPlotIsXML(t *testing.T) {
	svg := string(sampleReport.plot())
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
	}
	if n := strings.Count(svg, "<circle"); n != 6 {
		t.Errorf("%d dots for 6 runs", n)
	}
}
