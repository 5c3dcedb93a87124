package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/docker/go-units"

	"peel/pkg/explain"
)

// views are the words for kinds of namespaces: what a process sees of each.
var views = map[string]string{
	"mnt": "files", "pid": "processes", "net": "network", "uts": "host name",
	"ipc": "IPC", "user": "users", "cgroup": "cgroups", "time": "clocks",
}

// writeReport tells a report in words.
func writeReport(w io.Writer, r *explain.Report) error {
	t := &text{}
	t.summary(r)
	t.heading("What it sees")
	for _, n := range r.Namespaces {
		t.fact(views[n.Kind], "%s", namespace(n))
	}
	if len(r.UIDMap) > 0 || len(r.GIDMap) > 0 {
		t.heading("Whose rights its users have")
		t.ids(r)
	}
	t.heading("What it may do")
	t.powers(r)
	t.heading("What it may use")
	t.resources(&r.Cgroup)
	t.heading("What its files are")
	t.files(&r.Root)
	if len(r.HostFiles) > 0 {
		t.heading("Files from outside that it has open")
		for _, d := range r.HostFiles {
			t.fact("descriptor "+strconv.Itoa(d.FD), "%s (%s)%s", visible(d.Path), accessWords[d.Access], doorway(d))
		}
	}
	if len(r.Unreadable) > 0 {
		t.heading("What could not be read")
		for _, u := range r.Unreadable {
			t.fact(u.What, "%s", visible(u.Why))
		}
		if r.Denied() {
			t.line("Run peel as root to see everything.")
		}
	}
	_, err := w.Write(t.b.Bytes())
	return err
}

// text is a report in the making.
type text struct{ b bytes.Buffer }

func (t *text) line(format string, args ...any) { fmt.Fprintf(&t.b, format+"\n", args...) }
func (t *text) heading(s string)                { t.line("\n%s", s) }

// fact writes a line with a name in front, or without one, which goes on from the
// line above.
func (t *text) fact(name, format string, args ...any) {
	t.line("  %-14s "+format, append([]any{name}, args...)...)
}

func (t *text) summary(r *explain.Report) {
	var own, host []string
	for _, n := range r.Namespaces {
		if n.Host {
			host = append(host, views[n.Kind])
		} else {
			own = append(own, views[n.Kind])
		}
	}
	who := fmt.Sprintf("Process %d (%s)", r.PID, visible(r.Name))
	switch {
	case len(r.Namespaces) == 0:
		t.line("%s: its namespaces could not be read.", who)
	case len(own) == 0 && r.Root.Directory != "":
		t.line("%s sees the machine as it is, but for its files: it is locked into a directory.", who)
	case len(own) == 0:
		t.line("%s sees the machine as it is: nothing is its own.", who)
	default:
		t.line("%s has a view of its own of %s.", who, and(own))
		t.line("It shares with the host: %s.", or(strings.Join(host, ", "), "nothing"))
	}
	t.line("")
	if len(r.Command) > 0 {
		t.fact("command", "%s", visible(strings.Join(r.Command, " ")))
	}
	if r.Executable != "" {
		t.fact("program", "%s", visible(r.Executable))
	}
	if r.Parent.PID != 0 {
		t.fact("started by", "%s", peer(r.Parent))
	}
	if n := len(r.PIDs); n > 1 {
		t.fact("number inside", "%d", r.PIDs[n-1])
	}
	t.fact("user", "%s", user(r.UID, r.UIDMap))
}

// user is a user as the host has it, and as the process does.
func user(uid int64, ranges []explain.IDRange) string {
	outside := strconv.FormatInt(uid, 10)
	if uid == 0 {
		outside = "root"
	}
	for _, m := range ranges {
		if inside := uid - m.Outside + m.Inside; uid >= m.Outside && uid < m.Outside+m.Count && inside != uid {
			return fmt.Sprintf("%s; inside it is %s", outside, map[bool]string{true: "root", false: strconv.FormatInt(inside, 10)}[inside == 0])
		}
	}
	return outside
}

func namespace(n explain.Namespace) string {
	var s string
	switch {
	case n.Host:
		s = "the host's"
	case n.Shared == 0:
		s = "its own alone"
	default:
		var with []string
		for _, p := range n.With {
			with = append(with, peer(p))
		}
		if more := n.Shared - len(n.With); more > 0 {
			with = append(with, fmt.Sprintf("%d more", more))
		}
		s = "its own, together with " + and(with)
	}
	return fmt.Sprintf("%s [%d]", s, n.Inode)
}

func peer(p explain.Peer) string {
	if p.Name == "" {
		return strconv.Itoa(p.PID)
	}
	return fmt.Sprintf("%d (%s)", p.PID, visible(p.Name))
}

func (t *text) ids(r *explain.Report) {
	if explain.Identity(r.UIDMap) && explain.Identity(r.GIDMap) {
		t.fact("users, groups", "the same as outside: root inside is root outside, but for what follows")
		return
	}
	for _, kind := range []struct {
		name   string
		ranges []explain.IDRange
	}{{"users", r.UIDMap}, {"groups", r.GIDMap}} {
		name := kind.name
		for _, m := range kind.ranges {
			t.fact(name, "%s inside: %s outside", idRange(m.Inside, m.Count), idRange(m.Outside, m.Count))
			name = ""
		}
		if len(kind.ranges) == 0 {
			t.fact(name, "none is known there: all are nobody")
		}
	}
}

func idRange(first, count int64) string {
	if count == 1 {
		return strconv.FormatInt(first, 10)
	}
	return fmt.Sprintf("%d-%d", first, first+count-1)
}

func (t *text) powers(r *explain.Report) {
	c := r.Capabilities
	missing := explain.CapabilitySet(1<<c.Kernel-1) &^ c.Effective
	const few = 5
	switch n := c.Effective.Len(); {
	case n == 0:
		t.fact("root's powers", "none of them")
	case missing == 0:
		t.fact("root's powers", "all %d", n)
	case missing.Len() <= few:
		t.fact("root's powers", "%d of %d, all but %s", n, c.Kernel, names(missing, c.Kernel))
	case c.Effective == explain.Docker:
		t.fact("root's powers", "%d of %d, those that docker gives a container", n, c.Kernel)
	default:
		t.fact("root's powers", "%d of %d", n, c.Kernel)
	}
	if own := r.Namespace("user"); own != nil && !own.Host && c.Effective != 0 {
		t.fact("", "over its own namespaces only: it has a user namespace of its own")
	}
	if missing.Len() > few { // nearly all of them are no news
		for p := range c.Effective.All {
			t.line("    %-20s %s", strings.ToLower(strings.TrimPrefix(p.Name, "CAP_")), p.Allows)
		}
	}
	for _, set := range []struct {
		name, words string
		set         explain.CapabilitySet
	}{
		{"in reserve", "it may take: ", c.Permitted &^ c.Effective},
		{"by execution", "a set-id program or root's could add: ", c.Bounding &^ c.Permitted},
		{"inherited", "stay if a program's file asks for them: ", c.Inheritable},
		{"ambient", "stay for whatever it executes: ", c.Ambient},
	} {
		if set.name == "by execution" && r.NoNewPrivs || set.set == 0 {
			continue
		}
		t.fact(set.name, "%s%s", set.words, names(set.set, c.Kernel))
	}
	if r.NoNewPrivs {
		t.fact("no_new_privs", "on: nothing that it executes can have more powers than it has")
	} else {
		t.fact("no_new_privs", "off: set-id programs raise powers")
	}
	switch s := r.Seccomp; {
	case len(s.Refused)+len(s.Conditional) > 0:
		t.fact("system calls", "filtered; refused are %s", or(strings.Join(s.Refused, ", "), "none"))
		if len(s.Conditional) > 0 {
			t.fact("", "and, with some arguments, %s", strings.Join(s.Conditional, ", "))
		}
	case s.Mode == "filter" && s.Filters == 0:
		t.fact("system calls", "filtered (by what, can't be seen from outside)")
	case s.Mode == "filter":
		t.fact("system calls", "filtered by %s (what of, can't be seen from outside)", plural(s.Filters, "program", "programs"))
	case s.Mode == "strict":
		t.fact("system calls", "read, write, _exit and sigreturn alone")
	default:
		t.fact("system calls", "all; no seccomp filter")
	}
	t.fact("security label", "%s", or(visible(r.Label), "none"))
}

func names(set explain.CapabilitySet, all int) string {
	if set.Len() >= all {
		return "all"
	}
	var list []string
	for p := range set.All {
		list = append(list, strings.ToLower(strings.TrimPrefix(p.Name, "CAP_")))
	}
	return strings.Join(list, ", ")
}

func (t *text) resources(c *explain.Cgroup) {
	if c.Path == "" {
		t.fact("cgroup", "unknown")
		return
	}
	t.fact("cgroup", "%s (version %d)", visible(c.Path), c.Version)
	bytes := func(n int64) string { return units.BytesSize(float64(n)) }
	count := func(n int64) string { return strconv.FormatInt(n, 10) }
	t.fact("memory", "%s", amount(c.Memory, bytes))
	if c.Swap != (explain.Resource{}) {
		t.fact("swap", "%s", amount(c.Swap, bytes))
	}
	t.fact("processes", "%s", amount(c.PIDs, count))
	cpu := "no limit"
	if c.CPUs != nil {
		cpu = fmt.Sprintf("at most %s at a time", strconv.FormatFloat(*c.CPUs, 'g', 4, 64))
	}
	if c.CPUSet != "" {
		cpu += ", on " + visible(c.CPUSet)
	}
	if c.CPUSeconds != nil {
		cpu += fmt.Sprintf("; %.2f s used", *c.CPUSeconds)
	}
	t.fact("processors", "%s", cpu)
}

func amount(r explain.Resource, unit func(int64) string) string {
	switch {
	case r.Current != nil && r.Limit != nil:
		return fmt.Sprintf("%s of %s", unit(*r.Current), unit(*r.Limit))
	case r.Current != nil:
		return unit(*r.Current) + ", no limit"
	case r.Limit != nil:
		return "at most " + unit(*r.Limit)
	}
	return "not counted"
}

func (t *text) files(root *explain.Root) {
	if root.Directory != "" {
		t.fact("root", "the directory %s: it was changed by chroot", visible(root.Directory))
	}
	if root.Type != "" {
		what := root.Type
		if root.Source != "" && root.Source != root.Type {
			what += " on " + visible(root.Source)
		}
		if root.Subtree != "" {
			what += ", its directory " + visible(root.Subtree)
		}
		t.fact("file system", "%s, %s", what, writable(root.ReadOnly))
	}
	t.list("layers", root.Lower)
	if root.Upper != "" {
		t.fact("changes go to", "%s", visible(root.Upper))
	}
	name := "mounted in it"
	for _, m := range root.Mounts {
		from := m.Type + " on " + visible(m.Source)
		if m.Subtree != "" {
			from = visible(m.Subtree) + " of " + from
		}
		t.fact(name, "%s: %s, %s", visible(m.At), from, writable(m.ReadOnly))
		name = ""
	}
	t.list("hidden", outermost(root.Masked))
	t.list("read-only", outermost(root.Guarded))
}

func writable(readOnly bool) string {
	if readOnly {
		return "read-only"
	}
	return "writable"
}

func (t *text) list(name string, items []string) {
	for _, item := range items {
		t.fact(name, "%s", visible(item))
		name = ""
	}
}

// outermost leaves out what lies beneath another item.
func outermost(items []string) []string {
	var list []string
	for _, item := range items {
		if !slices.ContainsFunc(items, func(other string) bool { return strings.HasPrefix(item, other+"/") }) {
			list = append(list, item)
		}
	}
	return list
}

var accessWords = map[string]string{"r": "to read", "w": "to write", "rw": "to read and write", "path": "as a handle"}

// doorway warns of a descriptor that leads further than to one file.
func doorway(d explain.Descriptor) string {
	if d.Directory {
		return ": a directory, from which all of its file system can be reached"
	}
	return ""
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// and joins words as a sentence does.
func and(list []string) string {
	if n := len(list); n > 1 {
		return strings.Join(list[:n-1], ", ") + " and " + list[n-1]
	}
	return strings.Join(list, "")
}

// visible quotes a string of the process's own that would not show as it is: a
// terminal might take it for orders.
func visible(s string) string {
	if strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return strconv.Quote(s)
	}
	return s
}
