package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/tabwriter"
	"text/template"

	"github.com/spf13/cobra"
)

// listFlags are the flags of the verbs that print rows.
type listFlags struct {
	format         string
	json           bool
	quiet, noTrunc bool
	filter         []string
}

func (f *listFlags) register(cmd *cobra.Command, filters string) {
	flags := cmd.Flags()
	flags.StringVar(&f.format, "format", "", "print each by a Go `TEMPLATE`, after \"table \" as a table")
	flags.BoolVar(&f.json, "json", false, "print one JSON array")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "print ids only")
	flags.BoolVar(&f.noTrunc, "no-trunc", false, "print nothing shortened")
	flags.StringArrayVarP(&f.filter, "filter", "f", nil, "only those of `KEY=VALUE`: "+filters)
}

// rowPrinter prints rows of type T, a struct of strings for people, as the flags
// say. columns is the table, as a template; the heading of a field is its tag, or
// else its name.
type rowPrinter[T any] struct {
	json  bool
	table bool
	row   *template.Template
}

// newRowPrinter checks the flags, before rows are gathered. It takes what
// docker's verbs take: nothing, "table", "table TEMPLATE", "json" or TEMPLATE.
func newRowPrinter[T any](f listFlags, columns string) (*rowPrinter[T], error) {
	p := &rowPrinter[T]{json: f.json}
	format := f.format
	given, isTable := strings.CutPrefix(format, "table")
	switch {
	case f.json && format != "":
		return nil, usageError{nil, errors.New("--json and --format: want one of them")}
	case format == "" && f.quiet:
		format = "{{.ID}}"
	case format == "" || format == "table":
		format, p.table = columns, true
	case isTable:
		format, p.table = strings.TrimPrefix(strings.TrimSpace(given), `\t`), true
	}
	var row T
	var err error
	p.row, err = parseFormat(format, row)
	return p, err
}

// print writes all rows at once: a full disk is told of once.
func (p *rowPrinter[T]) print(w io.Writer, rows []T) error {
	if p.json {
		return writeJSON(w, append([]T{}, rows...), "  ") // none is an empty array
	}
	var out bytes.Buffer
	to, flush := io.Writer(&out), func() error { return nil }
	if p.table {
		columns := tabwriter.NewWriter(&out, 0, 0, 3, ' ', 0)
		to, flush = columns, columns.Flush
		rows = append([]T{headings[T]()}, rows...)
	}
	for _, row := range rows {
		if err := p.row.Execute(to, row); err != nil {
			return usageError{nil, err}
		}
		fmt.Fprintln(to)
	}
	flush()
	_, err := out.WriteTo(w)
	return err
}

// headings is the row above the others.
func headings[T any]() (head T) {
	v := reflect.ValueOf(&head).Elem()
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() {
			continue
		}
		text := f.Tag.Get("heading")
		if text == "" {
			text = strings.ToUpper(f.Name)
		}
		v.Field(i).SetString(text)
	}
	return head
}
