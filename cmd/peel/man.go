//go:build man

// With this tag the command writes its own manual pages into a directory, instead
// of being peel: what makes them need not be in the peel that users have.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run -tags man ./cmd/peel DIR")
		os.Exit(exitUsage)
	}
	if err := writeManual(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "man:", err)
		os.Exit(1)
	}
}

// writeManual writes a page for each command. Their date is SOURCE_DATE_EPOCH, if that
// is set.
func writeManual(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root := newRootCommand(&app{stdout: os.Stdout, stderr: os.Stderr})
	everyCommand(root, func(cmd *cobra.Command) { cmd.DisableAutoGenTag = true })
	return doc.GenManTree(root, &doc.GenManHeader{Source: "peel " + nextVersion, Manual: "peel"}, dir)
}
