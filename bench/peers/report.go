package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// report is everything that was measured, as it is written to the data file.
type report struct {
	Machine    string       `json:"machine"`
	CPUs       int          `json:"cpus"`
	FileSystem string       `json:"file_system"`
	Versions   []string     `json:"versions"`
	Rounds     int          `json:"rounds"`
	Tasks      []taskResult `json:"tasks"`
}

type taskResult struct {
	Image string       `json:"image"`
	Task  string       `json:"task"`
	Tools []toolResult `json:"tools"` // peel first
}

// of collects one figure of all runs.
func (r toolResult) of(figure func(sample) float64) []float64 {
	var out []float64
	for _, s := range r.Samples {
		out = append(out, figure(s))
	}
	return out
}

func wall(s sample) float64 { return s.Wall }
func cpu(s sample) float64  { return s.CPU }
func rss(s sample) float64  { return s.RSS }

// ratio is the median over the rounds of r's figure to base's.
func (r toolResult) ratio(base toolResult, figure func(sample) float64) float64 {
	var out []float64
	for i := range r.Samples {
		out = append(out, figure(r.Samples[i])/figure(base.Samples[i]))
	}
	return median(out)
}

// print writes the tables, in Markdown.
func (r report) print(w io.Writer) {
	fmt.Fprintf(w, "%s; %s; %d rounds. Medians; a ratio is the median of each round's ratio to peel.\n%s.\n", r.Machine, r.FileSystem, r.Rounds, strings.Join(r.Versions, ", "))
	for _, t := range r.Tasks {
		fmt.Fprintf(w, "\n| %s: %s | wall s | ratio | CPU s | ratio | peak MB |\n|---|---|---|---|---|---|\n", t.Image, t.Task)
		for _, tool := range t.Tools {
			fmt.Fprintf(w, "| %s | %.2f | %.2f | %.2f | %.2f | %.0f |\n", tool.Tool,
				median(tool.of(wall)), tool.ratio(t.Tools[0], wall),
				median(tool.of(cpu)), tool.ratio(t.Tools[0], cpu), median(tool.of(rss)))
		}
		floor := func(s sample) float64 { return s.CPU / float64(r.CPUs) }
		above := func(s sample) float64 { return s.Wall / floor(s) }
		fmt.Fprintf(w, "\nThe floor of %s, its CPU over %d cores: %.2f s; it is %.2f times that.\n",
			t.Tools[0].Tool, r.CPUs, median(t.Tools[0].of(floor)), median(t.Tools[0].of(above)))
	}
}

// write keeps the figures of every run and draws them.
func (r report) write(name string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(name+".json", append(b, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(name+".svg", r.plot(), 0o644)
}
