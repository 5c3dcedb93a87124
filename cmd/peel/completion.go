package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"peel/pkg/run"
)

func newCompletionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print a script that completes peel's words in a shell",
		Long: `Print a script that completes peel's words in a shell: verbs, flags, images, and
containers in a state that fits the verb. 'make install' puts them in their places.`,
		Example: `  source <(peel completion bash)
  peel completion zsh >"${fpath[1]}/_peel"
  peel completion fish >~/.config/fish/completions/peel.fish`,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.stdout, true)
			case "zsh":
				return root.GenZshCompletion(a.stdout)
			}
			return root.GenFishCompletion(a.stdout, true)
		},
	}
}

// completions tell the shell's completion what may follow each verb.
func (a *app) completions() map[string]cobra.CompletionFunc {
	const one, many = 1, 1 << 30
	running, idle, all := is(run.Running), is(run.Created, run.Exited), is(run.Created, run.Running, run.Exited)
	return map[string]cobra.CompletionFunc{
		"attach":  a.completeContainers(one, running),
		"cp":      a.completeCopy,
		"diff":    a.completeContainers(one, all),
		"exec":    a.completeContainers(one, running),
		"explain": a.completeContainers(one, running),
		"export":  orElse(cobra.ShellCompDirectiveDefault, a.completeContainers(one, all)),
		"images":  a.completeImages(one),
		"inspect": both(a.completeContainers(many, all), a.completeImages(many)),
		"kill":    a.completeContainers(many, running),
		"logs":    a.completeContainers(one, all),
		"port":    a.completeContainers(one, all),
		"pull":    a.completeImages(one),
		"rename":  a.completeContainers(one, all),
		"restart": a.completeContainers(many, all),
		"rm":      a.completeContainers(many, func(run.Status) bool { return true }),
		"rmi":     a.completeImages(many),
		"run":     orElse(cobra.ShellCompDirectiveDefault, a.completeImages(one)),
		"start":   a.completeContainers(many, idle),
		"stats":   a.completeContainers(many, running),
		"stop":    a.completeContainers(many, running),
		"top":     a.completeContainers(one, running),
		"unpack":  orElse(cobra.ShellCompDirectiveDefault, a.completeImages(one)),
		"wait":    a.completeContainers(many, running),
	}
}

// addCompletions gives every verb what may follow it; files only where a verb
// takes some.
func (a *app) addCompletions(root *cobra.Command) {
	follow := a.completions()
	if volume, _, err := root.Find([]string{"volume"}); err == nil && volume != root {
		for _, verb := range volume.Commands() {
			verb.ValidArgsFunction = a.completeVolumes
		}
	}
	for _, verb := range root.Commands() {
		if f := follow[verb.Name()]; f != nil {
			verb.ValidArgsFunction = f
		}
	}
	for flag, words := range map[string][]string{
		"progress": {"auto", "tty", "plain", "json", "none"}, "pull": {pullMissing, pullAlways, pullNever},
		"store-form": {formAuto, formImage, formFiles}, "type": {"container", "image"}, "signal": {"HUP", "INT", "KILL", "QUIT", "TERM", "USR1", "USR2"},
	} {
		for _, cmd := range append(root.Commands(), root) {
			if f := cmd.Flags().Lookup(flag); f == nil && cmd.PersistentFlags().Lookup(flag) == nil {
				continue
			}
			if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
				panic("peel: " + err.Error()) // the flag is there
			}
		}
	}
}

func is(phases ...run.Phase) func(run.Status) bool {
	return func(s run.Status) bool { return slices.Contains(phases, s.Phase) }
}

// both is what either gives.
func both(f, g cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		a, _ := f(cmd, args, begun)
		b, directive := g(cmd, args, begun)
		return append(a, b...), directive
	}
}

// orElse is f, and what the shell does of itself where f has nothing.
func orElse(directive cobra.ShellCompDirective, f cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		words, d := f(cmd, args, begun)
		if len(words) == 0 {
			d = directive
		}
		return words, d
	}
}

// completeContainers completes up to n names of containers that fit. An id is
// completed by who has begun to type one. Who cannot look has nothing to complete.
func (a *app) completeContainers(n int, fits func(run.Status) bool) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) >= n {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		rt, err := a.openRuntime()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		list, _ := rt.List()
		var words []cobra.Completion
		for _, c := range list {
			s, err := c.Status()
			if err != nil || !fits(s) || slices.Contains(args, c.Name) {
				continue
			}
			what := fmt.Sprintf("%s, %s", printable(c.Image), s.Phase)
			switch {
			case strings.HasPrefix(c.Name, begun):
				words = append(words, cobra.CompletionWithDesc(c.Name, what))
			case strings.HasPrefix(c.ID, begun):
				words = append(words, cobra.CompletionWithDesc(c.ID[:max(12, len(begun))], what))
			}
		}
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeImages completes up to n names of stored images.
func (a *app) completeImages(n int) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) >= n {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		st, err := a.openStore()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer st.Close()
		imgs, _ := st.Images()
		var words []cobra.Completion
		for _, img := range imgs {
			name, tag := nameAndTag(img.Name)
			if tag != "<none>" {
				name += ":" + tag
			}
			if strings.HasPrefix(name, begun) && !slices.Contains(args, name) {
				words = append(words, name)
			}
		}
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}

func (a *app) completeVolumes(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var words []cobra.Completion
	if rt, err := a.openRuntime(); err == nil && (cmd.Name() == "rm" || cmd.Name() == "inspect") {
		all, _, _ := rt.Volumes()
		for _, v := range all {
			if strings.HasPrefix(v.Name, begun) && !slices.Contains(args, v.Name) {
				words = append(words, v.Name)
			}
		}
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

// completeCopy completes the container of a CONTAINER:PATH, or files of the host.
func (a *app) completeCopy(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) >= 2 || strings.Contains(begun, ":") {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	if len(args) == 1 {
		if _, _, out := containerPath(args[0]); out {
			return nil, cobra.ShellCompDirectiveDefault // to the host
		}
	}
	words, _ := a.completeContainers(len(args)+1, func(run.Status) bool { return true })(cmd, args, begun)
	if len(words) == 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	for i, word := range words {
		name, what, _ := strings.Cut(word, "\t")
		words[i] = cobra.CompletionWithDesc(name+":", what)
	}
	return words, cobra.ShellCompDirectiveNoSpace
}
