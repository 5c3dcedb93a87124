package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"peel/pkg/run"
)

// psRequest is one ps as the command line asks for it.
type psRequest struct {
	listFlags
	all, latest, size bool
	last              int
}

func newPsCommand(a *app) *cobra.Command {
	var req psRequest
	cmd := &cobra.Command{
		Use:   "ps [flags]",
		Short: "List containers",
		Example: `  peel ps
  peel ps -aq --filter status=exited | xargs peel rm
  peel ps -a --format 'table {{.Names}}\t{{.Status}}'
  peel ps --json | jq '.[].ID'`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.ps(req) },
	}
	req.register(cmd, "name, id, label, status, exited, ancestor")
	flags := cmd.Flags()
	flags.BoolVarP(&req.all, "all", "a", false, "also those that do not run")
	flags.BoolVarP(&req.latest, "latest", "l", false, "only the newest, running or not")
	flags.IntVarP(&req.last, "last", "n", -1, "only the newest `N`, running or not")
	flags.BoolVarP(&req.size, "size", "s", false, "print how much each has written")
	return cmd
}

const (
	psColumns     = `{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}`
	psSizeColumns = psColumns + `\t{{.Size}}`
)

func (a *app) ps(req psRequest) error {
	columns := psColumns
	if req.size {
		columns = psSizeColumns
	}
	out, err := newRowPrinter[containerRow](req.listFlags, columns)
	if err != nil {
		return err
	}
	filter, err := a.containerFilter(req.filter)
	if err != nil {
		return err
	}
	if req.latest {
		req.last = 1
	}
	rt, err := a.openRuntime()
	if err != nil {
		return err
	}
	list, err := rt.List()
	if err != nil {
		return err
	}
	now := time.Now()
	var rows []containerRow
	for _, c := range list {
		if gone, _ := c.RemoveEnded(); gone { // what could not be removed is listed
			continue
		}
		s, err := c.Status()
		if errors.Is(err, run.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if req.last >= 0 && len(rows) == req.last {
			break
		}
		if s.Phase != run.Running && s.Phase != run.Restarting && !req.all && req.last < 0 && !filter.asks("status") || !filter.take(c, s) {
			continue
		}
		row := newContainerRow(c, s, now, req.noTrunc)
		if req.format != "" || req.json {
			row.addSpec(c) // which takes longer than all the rest
		}
		if req.size {
			if row.Size, err = sizeText(c); err != nil {
				return err
			}
		}
		rows = append(rows, row)
	}
	return out.print(a.stdout, rows)
}

// containerRow is a container as a line of ps, by the names that docker gives to
// its fields, sorted.
type containerRow struct {
	Command    string
	CreatedAt  string `heading:"CREATED AT"`
	ID         string `heading:"CONTAINER ID"`
	Image      string
	Labels     string
	Mounts     string
	Names      string
	Networks   string
	Pid        string
	Ports      string
	RunningFor string `heading:"CREATED"`
	Size       string
	State      string
	Status     string

	labels map[string]string
}

// Label is the value of one label, for templates.
func (r containerRow) Label(name string) string { return printable(r.labels[name]) }

func newContainerRow(c *run.Container, s run.Status, now time.Time, noTrunc bool) containerRow {
	id, command := c.ID, strings.Join(c.Args, " ")
	if !noTrunc {
		id, command = id[:12], ellipsis(command, 20)
	}
	row := containerRow{
		// A command of the image's is text of a stranger's: quoted, it cannot speak
		// to the terminal.
		Command:    strconv.Quote(command),
		CreatedAt:  c.Created.Local().Format(dockerTime),
		ID:         id,
		Image:      printable(c.Image),
		Labels:     labelText(c.Labels),
		Names:      c.Name,
		RunningFor: units.HumanDuration(now.Sub(c.Created)) + " ago",
		State:      string(s.Phase),
		Status:     statusText(s, now),
		labels:     c.Labels,
	}
	if s.Phase == run.Running {
		row.Pid = strconv.Itoa(s.Pid)
	}
	return row
}

// addSpec adds what is known from the container's config.
func (r *containerRow) addSpec(c *run.Container) {
	spec, err := c.Spec()
	if err != nil {
		return // it is being removed
	}
	var volumes []string
	for _, m := range c.Binds(spec) {
		volumes = append(volumes, printable(m.Source))
	}
	r.Mounts, r.Networks = strings.Join(volumes, ","), networkMode(spec)
}

// dockerTime is how docker's listings print a time.
const dockerTime = "2006-01-02 15:04:05 -0700 MST"

func labelText(labels map[string]string) string {
	var all []string
	for name, value := range labels {
		all = append(all, printable(name+"="+value))
	}
	slices.Sort(all)
	return strings.Join(all, ",")
}

func ellipsis(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}

// statusText says how a container does in docker's words.
func statusText(s run.Status, now time.Time) string {
	switch s.Phase {
	case run.Created:
		return "Created"
	case run.Running:
		up := "Up " + units.HumanDuration(now.Sub(s.Started))
		if s.Unattended {
			up += " (unattended)"
		}
		return up
	}
	when := s.Finished
	if when.IsZero() {
		when = s.Started
	}
	if s.Phase == run.Restarting {
		return fmt.Sprintf("Restarting (%d) %s ago", s.Code, units.HumanDuration(now.Sub(when)))
	}
	return fmt.Sprintf("Exited (%d) %s ago", s.Code, units.HumanDuration(now.Sub(when)))
}

// sizeText says how much a container has written.
func sizeText(c *run.Container) (string, error) {
	n, err := c.Written()
	if errors.Is(err, run.ErrNoBase) {
		return unknownValue, nil
	}
	return units.HumanSizeWithPrecision(float64(n), 3), err
}

// unknownValue stands in a table for what nobody can tell.
const unknownValue = "--"
