package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/spf13/cobra"

	"peel/pkg/store"
)

// app is what all verbs share: the global flags and where output goes.
type app struct {
	stdout, stderr io.Writer
	root           string
	progress       string
	mapped         bool // this is root of a user's own namespace: see rootless.go
	resumable      bool // what is under way goes on where it stopped, when it is begun again
}

func newRootCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "peel",
		Short: "Pull, unpack and run OCI images, without a daemon",
		Long: `peel takes an image from a registry, verifies every byte of it, puts it on disk
and runs it.

  peel pull nginx:latest                fetch and verify into the local store
  peel unpack nginx:latest ./nginx      a bundle for any OCI runtime
  peel run -d --name web nginx:latest   a container, in the background
  peel export web -o web.tar            its file system as one tar archive`,
		Version:       version(),
		Args:          cobra.NoArgs,
		SilenceErrors: true, // exit.go prints them
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SetOut(a.stdout)
	cmd.SetErr(a.stderr)
	cmd.SetVersionTemplate("peel {{.Version}}\n")
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError{cmd, err} })
	flags := cmd.PersistentFlags()
	flags.StringVar(&a.root, "root", "", "store `DIR` (default: $PEEL_ROOT, else /var/lib/peel for root, ~/.local/share/peel for others)")
	flags.StringVar(&a.progress, "progress", "auto", "`MODE` of progress on stderr: auto, tty, plain, json, none")
	cmd.AddCommand(newPullCommand(a), newUnpackCommand(a), newImagesCommand(a), newExportCommand(a), newExplainCommand(a), newGunzipCommand(a), newRmiCommand(a), newPruneCommand(a), newStoreCommand(a), newDoctorCommand(a))
	cmd.AddCommand(containerCommands(a)...)
	cmd.CompletionOptions.DisableDefaultCmd = true
	cmd.AddCommand(newCompletionCommand(a))
	a.addCompletions(cmd)
	arrangeHelp(cmd)
	cmd.Args = asUsage(cmd.Args)
	for _, verb := range cmd.Commands() {
		verb.Args = asUsage(verb.Args)
	}
	return cmd
}

// asUsage marks the errors of an argument check as the caller's mistake.
func asUsage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{cmd, err}
		}
		return nil
	}
}

// openStore opens the store at storeRoot.
func (a *app) openStore() (*store.Store, error) {
	root, err := a.storeRoot()
	if err != nil {
		return nil, &store.Error{Err: err}
	}
	return store.Open(root)
}

// storeRoot is the directory that --root, PEEL_ROOT or the user's id chooses.
func (a *app) storeRoot() (string, error) {
	if a.root != "" {
		return a.root, nil
	}
	if root := os.Getenv("PEEL_ROOT"); root != "" {
		return root, nil
	}
	return defaultRoot()
}

func defaultRoot() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/peel", nil
	}
	data := os.Getenv("XDG_DATA_HOME")
	if !filepath.IsAbs(data) { // XDG base directory specification: relative paths are invalid
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		data = filepath.Join(home, ".local", "share")
	}
	return filepath.Join(data, "peel"), nil
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return fmt.Sprintf("%s (development build)", nextVersion)
	}
	return info.Main.Version
}

// nextVersion is the release that this source will become.
const nextVersion = "0.1.0"
