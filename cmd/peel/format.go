package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"
	"unicode"
)

// parseFormat parses what --format says, in docker's dialect of Go templates. data is
// a value of the type that it will be applied to: a field that this has not is a
// mistake in the command line, found before anything is printed.
func parseFormat(format string, data any) (*template.Template, error) {
	if format == "json" {
		format = "{{json .}}"
	}
	// A shell has no easy way to write these.
	format = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(format)
	t, err := template.New("--format").Funcs(formatFuncs).Parse(format)
	if err == nil {
		err = checkFields(t.Root, reflect.TypeOf(data), reflect.TypeOf(data))
	}
	if err != nil {
		return nil, usageError{nil, err}
	}
	return t, nil
}

// formatFuncs are docker's.
var formatFuncs = template.FuncMap{
	"json": func(v any) (string, error) {
		var b bytes.Buffer
		err := writeJSON(&b, v, "")
		return strings.TrimSuffix(b.String(), "\n"), err
	},
	"join":  strings.Join,
	"split": strings.Split,
	"lower": strings.ToLower,
	"upper": strings.ToUpper,
	"title": func(s string) string {
		if s == "" {
			return s
		}
		r := []rune(s)
		return string(unicode.ToTitle(r[0])) + string(r[1:])
	},
	"pad": func(s string, before, after int) string {
		if s == "" {
			return s
		}
		return strings.Repeat(" ", max(before, 0)) + s + strings.Repeat(" ", max(after, 0))
	},
	"truncate": func(s string, n int) string { return s[:min(max(n, 0), len(s))] },
}

// writeJSON writes v for programs: characters of HTML are nothing special there.
func writeJSON(w io.Writer, v any, indent string) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	return enc.Encode(v)
}

// checkFields finds fields in a template that its data, of type root, has not. dot
// is the type of the dot, nil where nobody can say it before, as in a range.
func checkFields(n parse.Node, dot, root reflect.Type) error {
	nodes := func(dot reflect.Type, list ...parse.Node) error {
		for _, n := range list {
			if err := checkFields(n, dot, root); err != nil {
				return err
			}
		}
		return nil
	}
	branch := func(n parse.BranchNode, inside reflect.Type) error {
		if err := nodes(dot, n.Pipe, n.ElseList); err != nil {
			return err
		}
		return nodes(inside, n.List)
	}
	switch n := n.(type) {
	case *parse.ListNode:
		if n != nil {
			return nodes(dot, n.Nodes...)
		}
	case *parse.ActionNode:
		return nodes(dot, n.Pipe)
	case *parse.PipeNode:
		for _, c := range n.Cmds {
			if err := nodes(dot, c.Args...); err != nil {
				return err
			}
		}
	case *parse.IfNode:
		return branch(n.BranchNode, dot)
	case *parse.RangeNode:
		return branch(n.BranchNode, nil)
	case *parse.WithNode:
		return branch(n.BranchNode, nil)
	case *parse.FieldNode:
		if dot != nil {
			return checkField(dot, n.Ident)
		}
	case *parse.VariableNode:
		if n.Ident[0] == "$" {
			return checkField(root, n.Ident[1:])
		}
	}
	return nil
}

func checkField(t reflect.Type, path []string) error {
	for i, name := range path {
		if _, ok := t.MethodByName(name); ok {
			return nil
		}
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct {
			return nil // of a map, any key may be there
		}
		f, ok := t.FieldByName(name)
		if !ok || !f.IsExported() {
			of := ""
			if i > 0 {
				of = "." + strings.Join(path[:i], ".") + " has "
			}
			return fmt.Errorf("--format: %sno field .%s: want one of %s", of, name, strings.Join(fieldNames(t), " "))
		}
		t = f.Type
	}
	return nil
}

func fieldNames(t reflect.Type) (names []string) {
	for _, f := range reflect.VisibleFields(t) {
		if f.IsExported() && !f.Anonymous {
			names = append(names, "."+f.Name)
		}
	}
	slices.Sort(names)
	return names
}
