package main

import (
	"bytes"
	"strings"
	"testing"
)

type fruit struct {
	Colour string
	Name   string `heading:"FRUIT NAME"`
	Seeds  string

	tags map[string]string
}

func (f fruit) Tag(name string) string { return f.tags[name] }

func TestRowsAreAsDockerPrintsThem(t *testing.T) {
	rows := []fruit{{"red", "apple", "5", map[string]string{"a": "x"}}, {"yellow", "quince", "40", nil}}
	for name, test := range map[string]struct {
		flags listFlags
		want  string
	}{
		"nothing is the table":          {listFlags{}, "FRUIT NAME   COLOUR\napple        red\nquince       yellow\n"},
		"so is the word":                {listFlags{format: "table"}, "FRUIT NAME   COLOUR\napple        red\nquince       yellow\n"},
		"a table of one's own":          {listFlags{format: `table {{.Name}}\t{{.Seeds}}`}, "FRUIT NAME   SEEDS\napple        5\nquince       40\n"},
		"without a table, no headings":  {listFlags{format: `{{.Name}}\t{{.Seeds}}`}, "apple\t5\nquince\t40\n"},
		"json is a line each":           {listFlags{format: "json"}, `{"Colour":"red","Name":"apple","Seeds":"5"}` + "\n" + `{"Colour":"yellow","Name":"quince","Seeds":"40"}` + "\n"},
		"a function of docker's":        {listFlags{format: `{{json .Name}} {{upper .Colour}} {{title .Colour}} {{truncate .Name 2}}`}, "\"apple\" RED Red ap\n\"quince\" YELLOW Yellow qu\n"},
		"join and split":                {listFlags{format: `{{join (split .Name "p") "-"}}{{pad .Seeds 1 2}}|`}, "a--le 5  |\nquince 40  |\n"},
		"a method with an argument":     {listFlags{format: `{{.Tag "a"}}`}, "x\n\n"},
		"what a range is over is free":  {listFlags{format: `{{range (split .Colour "e")}}[{{.}}]{{end}}`}, "[r][d]\n[y][llow]\n"},
		"quiet is the ids":              {listFlags{quiet: true, format: "{{.Name}}"}, "apple\nquince\n"},
		"json for programs is an array": {listFlags{json: true}, "[\n  {\n    \"Colour\": \"red\",\n    \"Name\": \"apple\",\n    \"Seeds\": \"5\"\n  },\n  {\n    \"Colour\": \"yellow\",\n    \"Name\": \"quince\",\n    \"Seeds\": \"40\"\n  }\n]\n"},
	} {
		p, err := newRowPrinter[fruit](test.flags, `{{.Name}}\t{{.Colour}}`)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got bytes.Buffer
		if err := p.print(&got, rows); err != nil || got.String() != test.want {
			t.Errorf("%s: got\n%swant\n%s(%v)", name, &got, test.want, err)
		}
	}
}

func TestAFormatIsCheckedBeforeAnythingIsPrinted(t *testing.T) {
	for format, want := range map[string]string{
		"{{.Nme}}":                                  "no field .Nme: want one of .Colour .Name .Seeds",
		"{{if .Nme}}{{end}}":                        "no field .Nme",
		"{{if .Name}}{{else}}{{.Nme}}{{end}}":       "no field .Nme",
		"{{with .Nme}}{{end}}":                      "no field .Nme",
		"{{range .Name}}{{else}}{{.Nme}}{{end}}":    "no field .Nme",
		"{{range .Name}}{{$.Name}}{{$.Nme}}{{end}}": "no field .Nme",
		"{{json (upper .Nme)}}":                     "no field .Nme",
		"{{.tags}}":                                 "no field .tags",
		"table {{.Nme}}":                            "no field .Nme",
		"{{.Name":                                   "unclosed action",
		"{{nofunc .Name}}":                          "nofunc",
	} {
		_, err := newRowPrinter[fruit](listFlags{format: format}, "{{.Name}}")
		if err == nil || !strings.Contains(err.Error(), want) || !isUsage(err) {
			t.Errorf("%s: got %v, want a mistake in the command line: %s", format, err, want)
		}
	}
}
