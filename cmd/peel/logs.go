package main

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"peel/pkg/run"
)

func newLogsCommand(a *app) *cobra.Command {
	var o run.LogOptions
	var tail, since, until string
	var timestamps bool
	cmd := &cobra.Command{
		Use:   "logs [flags] CONTAINER",
		Short: "Print what a container in the background has printed",
		Example: `  peel logs -f web
  peel logs --tail 20 -t web
  peel logs --since 10m web`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if tail != "all" {
				n, err := strconv.Atoi(tail)
				if err != nil {
					return usageError{nil, fmt.Errorf("--tail %q: want a number or all", tail)}
				}
				if n >= 0 { // docker takes any other for all
					o.Tail = &n
				}
			}
			var err error
			if o.Since, err = moment(since); err != nil {
				return usageError{nil, fmt.Errorf("--since: %w", err)}
			}
			if o.Until, err = moment(until); err != nil {
				return usageError{nil, fmt.Errorf("--until: %w", err)}
			}
			c, err := a.container(args[0])
			if err != nil {
				return err
			}
			return c.Logs(cmd.Context(), o, func(e run.LogEntry) error {
				to := a.stdout
				if e.Stream == "stderr" {
					to = a.stderr
				}
				text := e.Text
				if timestamps {
					text = e.Time.Format(time.RFC3339Nano) + " " + text
				}
				_, err := io.WriteString(to, text)
				return err
			})
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&o.Follow, "follow", "f", false, "wait for more until the container ends")
	flags.BoolVarP(&timestamps, "timestamps", "t", false, "print when each line was printed")
	flags.StringVarP(&tail, "tail", "n", "all", "begin `N` lines before the end")
	flags.StringVar(&since, "since", "", "only what is newer than `WHEN`: a time, or how long ago, as in 10m")
	flags.StringVar(&until, "until", "", "only what is older than `WHEN`")
	return cmd
}

// moment reads a time or how long ago it was.
func moment(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return time.Now().Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is neither a time nor a duration", s)
}
