package main

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// long are the verbs whose flags alone fill more than a screen.
var long = []string{"peel", "peel run", "peel export", "peel unpack"}

const screenLines = 24

func TestEveryHelpFitsAScreen(t *testing.T) {
	root := newRootCommand(&app{stdout: io.Discard, stderr: io.Discard})
	everyCommand(root, func(cmd *cobra.Command) {
		var b bytes.Buffer
		cmd.SetOut(&b)
		if err := cmd.Help(); err != nil {
			t.Fatal(err)
		}
		help := b.String()
		if lines := strings.Count(help, "\n"); lines > screenLines && !slices.Contains(long, cmd.CommandPath()) {
			t.Errorf("%s: the help has %d lines, of %d that a screen has", cmd.CommandPath(), lines, screenLines)
		}
		for line := range strings.Lines(help) {
			if utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) > helpWidth {
				t.Errorf("%s: wider than a screen: %s", cmd.CommandPath(), line)
			}
		}
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: %q is no line for a list", cmd.CommandPath(), cmd.Short)
		}
	})
}

// examples are the command lines of peel among those of a command's help, in words.
func examples(cmd *cobra.Command) (all [][]string) {
	for line := range strings.Lines(cmd.Example) {
		for _, command := range shellWords(strings.TrimSpace(line)) {
			if command[0] == "peel" {
				all = append(all, command[1:])
			}
		}
	}
	return all
}

// shellWords splits a line as a shell would that knows single quotes, $(...) as a
// word of its own, and what ends a command.
func shellWords(line string) (commands [][]string) {
	var words []string
	word, begun, quoted, depth := "", false, false, 0
	endWord := func() {
		if begun {
			words = append(words, word)
		}
		word, begun = "", false
	}
	for _, r := range line + "|" {
		switch {
		case r == '\'' && depth == 0:
			quoted, begun = !quoted, true
		case quoted:
			word += string(r)
		case r == '(' && (depth > 0 || strings.HasSuffix(word, "$") || strings.HasSuffix(word, "<")):
			depth++
			word += string(r)
		case r == ')' && depth > 0:
			depth--
			word += string(r)
		case depth > 0:
			word += string(r)
		case r == ' ':
			endWord()
		case strings.ContainsRune("|&>;", r):
			if endWord(); len(words) > 0 {
				commands = append(commands, words)
			}
			words = nil
		default:
			word, begun = word+string(r), true
		}
	}
	return commands
}

func TestEveryExampleIsOne(t *testing.T) {
	everyCommand(newRootCommand(&app{}), func(cmd *cobra.Command) {
		if !cmd.HasParent() || cmd.Name() == "help" || cmd.Parent().HasParent() {
			return
		}
		own := false
		for _, words := range examples(cmd) {
			// Parsed by a command that has parsed nothing yet.
			verb, rest, err := newRootCommand(&app{}).Find(words)
			if err != nil {
				t.Errorf("%s: peel %s: %v", cmd.Name(), strings.Join(words, " "), err)
				continue
			}
			own = own || verb.Name() == cmd.Name() || verb.Parent().Name() == cmd.Name()
			if err := verb.ParseFlags(rest); err != nil {
				t.Errorf("%s: peel %s: %v", cmd.Name(), strings.Join(words, " "), err)
			} else if err := verb.ValidateArgs(verb.Flags().Args()); err != nil {
				t.Errorf("%s: peel %s: %v", cmd.Name(), strings.Join(words, " "), err)
			}
		}
		if !own {
			t.Errorf("%s: the help has no example", cmd.Name())
		}
	})
}

// A verb that takes names completes them, and none falls back to files unless it
// takes files.
func TestEveryVerbCompletesItsArguments(t *testing.T) {
	files := []string{"gunzip"}
	everyCommand(newRootCommand(&app{}), func(cmd *cobra.Command) {
		if cmd.HasSubCommands() || cmd.Name() == "help" || slices.Contains(files, cmd.Name()) || !strings.ContainsAny(cmd.Use, " ") {
			return
		}
		if strings.TrimSuffix(cmd.Use, " [flags]") != cmd.Name() && cmd.ValidArgsFunction == nil && len(cmd.ValidArgs) == 0 {
			t.Errorf("%s: nothing completes its arguments", cmd.CommandPath())
		}
	})
	a := &app{}
	for name := range a.completions() {
		if verb, _, err := newRootCommand(a).Find([]string{name}); err != nil || verb.Name() != name {
			t.Errorf("completions for %s, which is no verb", name)
		}
	}
}

func TestFill(t *testing.T) {
	word := strings.Repeat("x", 39)
	for text, want := range map[string]string{
		"":                                 "",
		"a\nb":                             "a b",
		"a\n\nb":                           "a\n\nb",
		"a\n  code   kept\nb\nc":           "a\n  code   kept\nb c",
		word + " " + word + " " + word:     word + " " + word + "\n" + word,
		word + " " + word + "y " + "z":     word + " " + word + "y\nz",
		strings.Repeat("ü", 90) + " short": strings.Repeat("ü", 90) + "\nshort",
	} {
		if got := fill(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
