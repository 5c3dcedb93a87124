package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/opencontainers/runtime-spec/specs-go"

	"peel/pkg/run"
)

// create makes a container, or with dryRun says what it would be, and returns none.
func (a *app) create(ctx context.Context, rt *run.Runtime, root run.Rootfs, spec *specs.Spec, o run.CreateOptions, dryRun bool) (_ *run.Container, err error) {
	if !dryRun {
		return rt.Create(ctx, root, spec, o)
	}
	if o.Populate != nil {
		// The user's name is looked up in the image's files, which is what it takes.
		dir, err := os.MkdirTemp("", "peel-dry-run-")
		if err != nil {
			return nil, err
		}
		made, err := o.Populate(ctx, dir)
		if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
			return nil, err
		}
		spec = made.Spec
	}
	if spec, err = rt.Plan(spec, o); err != nil {
		return nil, err
	}
	enc := json.NewEncoder(a.stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(spec); err != nil {
		return nil, err
	}
	describe(a.stderr, root, spec)
	return nil, nil
}

// describe says what a config comes to.
func describe(w io.Writer, root run.Rootfs, spec *specs.Spec) {
	line := func(what string, words ...any) { fmt.Fprintf(w, "%-14s %s\n", what, fmt.Sprint(words...)) }
	list := func(what string, items []string) {
		for i, item := range items {
			if i > 0 {
				what = ""
			}
			line(what, item)
		}
	}
	p, linux := spec.Process, spec.Linux
	from := "the image's files, unpacked for the container"
	switch {
	case root.Dir != "":
		from = root.Dir + ", written to"
	case root.Mounts():
		from = "the image, mounted; changes are the container's own"
	case root.Image != nil:
		from = "the image's files, unpacked; changes are the container's own"
	}
	if spec.Root.Readonly {
		from += "; read-only"
	}
	line("root", from)
	line("command", fmt.Sprintf("%q in %s", p.Args, p.Cwd))
	line("user", fmt.Sprintf("%d:%d, groups %v", p.User.UID, p.User.GID, p.User.AdditionalGids))
	list("namespaces", namespaceLines(linux))
	var mounts []string
	for _, m := range spec.Mounts {
		mounts = append(mounts, fmt.Sprintf("%s: %s %s (%s)", m.Destination, m.Type, m.Source, strings.Join(m.Options, ",")))
	}
	list("mounts", mounts)
	list("masked", linux.MaskedPaths)
	list("read-only", linux.ReadonlyPaths)
	list("capabilities", capabilityLines(p.Capabilities))
	line("privileges", privileges(spec))
	list("limits", limitLines(spec))
	list("sysctls", pairs(linux.Sysctl))
	list("hooks", hookLines(spec.Hooks))
}

func namespaceLines(l *specs.Linux) []string {
	var lines []string
	shared := []specs.LinuxNamespaceType{specs.MountNamespace, specs.PIDNamespace, specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.CgroupNamespace, specs.UserNamespace, specs.TimeNamespace}
	for _, ns := range l.Namespaces {
		shared = slices.DeleteFunc(shared, func(t specs.LinuxNamespaceType) bool { return t == ns.Type })
		switch {
		case ns.Path != "":
			lines = append(lines, fmt.Sprintf("%s: joined at %s", ns.Type, ns.Path))
		case ns.Type == specs.NetworkNamespace:
			lines = append(lines, "network: new, with a loopback interface and no other")
		default:
			lines = append(lines, string(ns.Type)+": new")
		}
	}
	for _, t := range shared {
		lines = append(lines, string(t)+": the host's")
	}
	for _, m := range []struct {
		what string
		ids  []specs.LinuxIDMapping
	}{{"uids", l.UIDMappings}, {"gids", l.GIDMappings}} {
		for _, id := range m.ids {
			lines = append(lines, fmt.Sprintf("%s %d to %d are the host's from %d on", m.what, id.ContainerID, id.ContainerID+id.Size-1, id.HostID))
		}
	}
	return lines
}

func capabilityLines(c *specs.LinuxCapabilities) []string {
	if c == nil {
		return []string{"none"}
	}
	var lines []string
	for _, set := range []struct {
		name string
		caps []string
	}{{"bounding", c.Bounding}, {"permitted", c.Permitted}, {"effective", c.Effective}, {"inheritable", c.Inheritable}, {"ambient", c.Ambient}} {
		caps := "none"
		if len(set.caps) > 0 {
			caps = strings.ReplaceAll(strings.Join(set.caps, " "), "CAP_", "")
		}
		lines = append(lines, set.name+": "+caps)
	}
	return lines
}

func privileges(spec *specs.Spec) string {
	words := []string{"no filter of system calls"}
	if s := spec.Linux.Seccomp; s != nil {
		n := 0
		for _, group := range s.Syscalls {
			n += len(group.Names)
		}
		words[0] = fmt.Sprintf("system calls filtered by %d rules, others %s", n, s.DefaultAction)
	}
	if spec.Process.NoNewPrivileges {
		words = append(words, "none gained by execve")
	}
	if profile := spec.Process.ApparmorProfile; profile != "" {
		words = append(words, "AppArmor profile "+profile)
	}
	if label := spec.Process.SelinuxLabel; label != "" {
		words = append(words, "SELinux label "+label)
	}
	return strings.Join(words, "; ")
}

// limitLines are the limits that config.json sets, in its own words where people have
// no better ones.
func limitLines(spec *specs.Spec) []string {
	var lines []string
	if r := spec.Linux.Resources; r != nil {
		if m := r.Memory; m != nil && m.Limit != nil {
			l := "memory " + units.BytesSize(float64(*m.Limit))
			if m.Swap != nil && *m.Swap > 0 {
				l += ", with swap " + units.BytesSize(float64(*m.Swap))
			}
			lines = append(lines, l)
		}
		if c := r.CPU; c != nil {
			b, _ := json.Marshal(c) // plain numbers
			lines = append(lines, "cpu "+string(b))
		}
		if r.Pids != nil && r.Pids.Limit != nil {
			lines = append(lines, fmt.Sprintf("processes %d", *r.Pids.Limit))
		}
		for _, d := range r.Devices {
			number := func(n *int64) string {
				if n == nil {
					return "*"
				}
				return fmt.Sprint(*n)
			}
			verb := "deny"
			if d.Allow {
				verb = "allow"
			}
			kind := d.Type
			if kind == "" {
				kind = "a"
			}
			lines = append(lines, fmt.Sprintf("devices: %s %s %s:%s %s", verb, kind, number(d.Major), number(d.Minor), d.Access))
		}
		rest := *r
		rest.Memory, rest.CPU, rest.Pids, rest.Devices = nil, nil, nil, nil
		if b, _ := json.Marshal(rest); string(b) != "{}" {
			lines = append(lines, "others "+string(b))
		}
	}
	for _, l := range spec.Process.Rlimits {
		lines = append(lines, fmt.Sprintf("%s %d, at most %d", l.Type, l.Soft, l.Hard))
	}
	return lines
}

func pairs(m map[string]string) []string {
	var lines []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		lines = append(lines, key+" = "+m[key])
	}
	return lines
}

func hookLines(h *specs.Hooks) []string {
	if h == nil {
		return nil
	}
	var lines []string
	for _, moment := range []struct {
		name  string
		hooks []specs.Hook
	}{
		//lint:ignore SA1019 deprecated, and still to be called
		{"prestart", h.Prestart},
		{"createRuntime", h.CreateRuntime}, {"createContainer", h.CreateContainer},
		{"startContainer", h.StartContainer}, {"poststart", h.Poststart}, {"poststop", h.Poststop},
	} {
		for _, hook := range moment.hooks {
			lines = append(lines, fmt.Sprintf("%s: %s %q", moment.name, hook.Path, hook.Args))
		}
	}
	return lines
}
