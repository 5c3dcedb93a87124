package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"peel/pkg/run"
)

// statsRequest is one stats as the command line asks for it.
type statsRequest struct {
	listFlags
	names     []string // none is all that run
	all, once bool
}

func newStatsCommand(a *app) *cobra.Command {
	var req statsRequest
	cmd := &cobra.Command{
		Use:   "stats [flags] [CONTAINER...]",
		Short: "Show what containers use of the machine",
		Long: `Show what containers use of the machine, those that run or those that are named,
every second until Ctrl-C. A "--" is what nobody counts: without a cgroup of its
own, as users' containers often are, only the network of a container is known.`,
		Example: `  peel stats
  peel stats --no-stream web db
  peel stats --no-stream --format '{{.Name}} {{.MemUsage}}'`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			req.names = args
			return a.stats(cmd.Context(), req)
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&req.all, "all", "a", false, "also those that do not run")
	flags.BoolVar(&req.once, "no-stream", false, "print once")
	flags.BoolVar(&req.noTrunc, "no-trunc", false, "print ids in full")
	flags.StringVar(&req.format, "format", "", "print each by a Go `TEMPLATE`, after \"table \" as a table")
	flags.BoolVar(&req.json, "json", false, "print one JSON array each time")
	return cmd
}

const statsColumns = `{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}`

// What is used of processors is counted between two looks: statsEvery apart, but
// soon after the first.
const (
	statsFirst = 500 * time.Millisecond
	statsEvery = time.Second
)

func (a *app) stats(ctx context.Context, req statsRequest) error {
	out, err := newRowPrinter[statsRow](req.listFlags, statsColumns)
	if err != nil {
		return err
	}
	rt, err := a.openRuntime()
	if err != nil {
		return err
	}
	_, live := terminal(a.stdout)
	before := map[string]run.Usage{}
	if _, err := watch(rt, req, before); err != nil {
		return err
	}
	for wait := statsFirst; ; wait = statsEvery {
		select {
		case <-ctx.Done():
			if req.once {
				return ctx.Err()
			}
			return nil // Ctrl-C is how it ends
		case <-time.After(wait):
		}
		rows, err := watch(rt, req, before)
		if err != nil {
			return err
		}
		if live && !req.once && !req.json {
			if _, err := fmt.Fprint(a.stdout, "\x1b[H\x1b[2J"); err != nil {
				return err
			}
		}
		if err := out.print(a.stdout, rows); err != nil || req.once {
			return err
		}
	}
}

// watch looks at the containers once. before is what they had used the last time,
// and is what they have used now afterwards.
func watch(rt *run.Runtime, req statsRequest, before map[string]run.Usage) ([]statsRow, error) {
	list, err := watched(rt, req.names)
	if err != nil {
		return nil, err
	}
	var rows []statsRow
	for _, c := range list {
		now, err := c.Usage()
		idle := errors.Is(err, run.ErrNotRunning)
		if err != nil && !idle {
			return nil, fmt.Errorf("%s: %w", c.Name, err)
		}
		if idle && !req.all && len(req.names) == 0 {
			continue
		}
		rows = append(rows, newStatsRow(c, before[c.ID], now, req.noTrunc))
		before[c.ID] = now
	}
	return rows, nil
}

func watched(rt *run.Runtime, names []string) ([]*run.Container, error) {
	if len(names) == 0 {
		return rt.List()
	}
	var list []*run.Container
	for _, name := range names {
		c, err := rt.Get(name)
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, nil
}

// statsRow is a container as a line of stats, by the names that docker gives to
// its fields, sorted.
type statsRow struct {
	BlockIO   string `heading:"BLOCK I/O"`
	CPUPerc   string `heading:"CPU %"`
	Container string
	ID        string `heading:"CONTAINER ID"`
	MemPerc   string `heading:"MEM %"`
	MemUsage  string `heading:"MEM USAGE / LIMIT"`
	Name      string
	NetIO     string `heading:"NET I/O"`
	PIDs      string
}

func newStatsRow(c *run.Container, before, now run.Usage, noTrunc bool) statsRow {
	r := statsRow{
		ID: c.ID[:12], Name: c.Name, CPUPerc: unknownValue, MemPerc: unknownValue, PIDs: unknownValue,
		MemUsage: pair(now.Memory, now.MemoryLimit, units.BytesSize),
		NetIO:    pair(now.NetReceived, now.NetSent, decimalSize),
		BlockIO:  pair(now.BlockRead, now.BlockWritten, decimalSize),
	}
	if noTrunc {
		r.ID = c.ID
	}
	r.Container = r.ID
	// Counted anew if it was started again between the looks.
	if now.CPU != nil && before.CPU != nil && *now.CPU >= *before.CPU && now.At.After(before.At) {
		r.CPUPerc = percent(float64(*now.CPU-*before.CPU), float64(now.At.Sub(before.At)))
	}
	if now.Memory != nil && now.MemoryLimit != nil && *now.MemoryLimit > 0 {
		r.MemPerc = percent(float64(*now.Memory), float64(*now.MemoryLimit))
	}
	if now.Pids != nil {
		r.PIDs = strconv.FormatUint(*now.Pids, 10)
	}
	return r
}

func percent(part, whole float64) string { return fmt.Sprintf("%.2f%%", part*100/whole) }

func decimalSize(n float64) string { return units.HumanSizeWithPrecision(n, 3) }

// pair is two numbers of bytes, as far as they are known.
func pair(a, b *uint64, format func(float64) string) string {
	text := func(n *uint64) string {
		if n == nil {
			return unknownValue
		}
		return format(float64(*n))
	}
	return text(a) + " / " + text(b)
}
