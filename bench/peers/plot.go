package main

import (
	"bytes"
	"fmt"
	"html"
	"slices"
)

// Measures of the drawing, in pixels.
const (
	plotWidth = 760
	labelX    = 200 // where bars begin
	barWidth  = 400 // of the slowest tool of a task
	rowHeight = 22
	barHeight = 14
	headRoom  = 34 // above the rows of a task
)

// plot draws the wall time of each tool as a bar, task by task: the median, a
// dot for every run, and the ratio to peel.
func (r report) plot() []byte {
	var body bytes.Buffer
	y := 10
	for _, t := range r.Tasks {
		slowest := 0.0
		for _, tool := range t.Tools {
			slowest = max(slowest, slices.Max(tool.of(wall)))
		}
		x := func(seconds float64) float64 { return labelX + barWidth*seconds/slowest }
		y += headRoom
		fmt.Fprintf(&body, `<text x="10" y="%d" class="task">%s: %s</text>`+"\n", y-8, html.EscapeString(t.Image), html.EscapeString(t.Task))
		for i, tool := range t.Tools {
			class := "peer"
			if i == 0 {
				class = "peel"
			}
			m := median(tool.of(wall))
			fmt.Fprintf(&body, `<text x="%d" y="%d" class="tool">%s</text>`+"\n", labelX-8, y+barHeight-3, html.EscapeString(tool.Tool))
			fmt.Fprintf(&body, `<rect x="%d" y="%d" width="%.1f" height="%d" class="%s"/>`+"\n", labelX, y, x(m)-labelX, barHeight, class)
			for _, s := range tool.of(wall) {
				fmt.Fprintf(&body, `<circle cx="%.1f" cy="%d" r="2"/>`+"\n", x(s), y+barHeight/2)
			}
			end := x(slices.Max(tool.of(wall))) + 8
			fmt.Fprintf(&body, `<text x="%.1f" y="%d">%.2f s, %.2f times peel</text>`+"\n", end, y+barHeight-3, m, tool.ratio(t.Tools[0], wall))
			y += rowHeight
		}
	}
	var svg bytes.Buffer
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">
<style>.task{font-weight:bold}.tool{text-anchor:end}.peel{fill:#2a7}.peer{fill:#bbb}circle{fill:#000;fill-opacity:.45}</style>
<rect width="100%%" height="100%%" fill="#fff"/>
%s<text x="10" y="%d" fill="#666">%s; %s</text>
</svg>
`, plotWidth, y+36, body.Bytes(), y+24, html.EscapeString(r.Machine), html.EscapeString(r.FileSystem))
	return svg.Bytes()
}
