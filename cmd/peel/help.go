package main

import (
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// helpWidth is that of the terminals that nobody has made wider.
const helpWidth = 80

// usageTemplate is cobra's without what would be the same for every verb.
const usageTemplate = `Usage:
  {{.UseLine}}{{if .HasExample}}

Examples:
{{.Example}}{{end}}{{if .HasAvailableSubCommands}}{{$all := .Commands}}{{range $group := .Groups}}

{{.Title}}{{range $all}}{{if and (eq .GroupID $group.ID) .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}{{if not .AllChildCommandsHaveGroup}}

Commands:{{range $all}}{{if and (eq .GroupID "") .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}{{end}}{{if .HasAvailableLocalFlags}}

{{if .HasParent}}Flags:{{else}}Flags of all verbs:{{end}}
{{.LocalFlags.FlagUsagesWrapped 80 | trimTrailingWhitespaces}}{{end}}
`

// groups say what a verb is about. The others are about peel itself.
var groups = []struct {
	title string
	verbs []string
}{
	{"Images:", []string{"pull", "unpack", "images", "rmi", "prune", "store"}},
	{"Containers:", []string{
		"run", "exec", "attach", "start", "stop", "restart", "kill", "wait", "rm", "rename", "cp", "export",
		"volume",
	}},
	{"To see:", []string{"ps", "logs", "top", "stats", "diff", "port", "inspect", "explain"}},
}

// arrangeHelp gives all commands below root the form of help that fits a screen.
func arrangeHelp(root *cobra.Command) {
	root.SetUsageTemplate(usageTemplate)
	for _, g := range groups {
		root.AddGroup(&cobra.Group{ID: g.title, Title: g.title})
		for _, name := range g.verbs {
			if verb, _, err := root.Find([]string{name}); err == nil && verb != root {
				verb.GroupID = g.title
			}
		}
	}
	everyCommand(root, func(cmd *cobra.Command) {
		cmd.Long = fill(cmd.Long)
		// How a help was asked for, it need not say.
		cmd.InitDefaultHelpFlag()
		cmd.Flags().Lookup("help").Hidden = true
	})
}

// everyCommand calls f with cmd and all commands below it.
func everyCommand(cmd *cobra.Command, f func(*cobra.Command)) {
	f(cmd)
	for _, c := range cmd.Commands() {
		everyCommand(c, f)
	}
}

// fill breaks the lines of each paragraph anew, to fit helpWidth. Lines that begin
// with a space stay as they are.
func fill(text string) string {
	var out strings.Builder
	column := 0
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 || line[0] == ' ' {
			if column > 0 {
				out.WriteByte('\n')
			}
			column = 0
			out.WriteString(line)
			continue
		}
		for _, word := range words {
			switch {
			case column == 0:
			case column+1+utf8.RuneCountInString(word) > helpWidth:
				out.WriteByte('\n')
				column = 0
			default:
				out.WriteByte(' ')
				column++
			}
			out.WriteString(word)
			column += utf8.RuneCountInString(word)
		}
	}
	return out.String()
}
