package main

import (
	"bytes"
	"strings"
	"testing"
	"unicode"

	"peel/pkg/explain"
)

func ptr[T any](v T) *T { return &v }

// webServer is a container as docker makes it, but for a user namespace.
func webServer() *explain.Report {
	return &explain.Report{
		PID: 4711, Name: "nginx", Command: []string{"nginx", "-g", "daemon off;"}, Executable: "/usr/sbin/nginx",
		Parent: explain.Peer{PID: 4690, Name: "peel"}, PIDs: []int{4711, 1}, UID: 100000,
		Namespaces: []explain.Namespace{
			{Kind: "mnt", Inode: 11, Shared: 1, With: []explain.Peer{{PID: 4750, Name: "nginx"}}},
			{Kind: "net", Inode: 12, Shared: 7, With: []explain.Peer{{PID: 4750, Name: "nginx"}, {PID: 4751}}},
			{Kind: "user", Inode: 13},
			{Kind: "time", Inode: 14, Host: true, Shared: 99},
		},
		UIDMap:       []explain.IDRange{{Inside: 0, Outside: 100000, Count: 65536}},
		GIDMap:       []explain.IDRange{{Inside: 0, Outside: 1000, Count: 1}, {Inside: 1, Outside: 100000, Count: 10}},
		Capabilities: explain.Capabilities{Effective: 1<<0 | 1<<13, Permitted: 1<<0 | 1<<13, Bounding: 1<<0 | 1<<13 | 1<<21, Kernel: 41},
		Seccomp:      explain.Seccomp{Mode: "filter", Filters: 1},
		Label:        "docker-default (enforce)",
		Cgroup: explain.Cgroup{
			Version: 2, Path: "/web", Memory: explain.Resource{Limit: ptr[int64](512 << 20), Current: ptr[int64](10 << 20)},
			PIDs: explain.Resource{Current: ptr[int64](5)}, CPUs: ptr(1.5), CPUSeconds: ptr(2.5), CPUSet: "0-3",
		},
		Root: explain.Root{
			Type: "overlay", Source: "overlay", Lower: []string{"/layers/b", "/layers/a"}, Upper: "/containers/1/upper",
			Mounts: []explain.Mount{{At: "/etc/hosts", Type: "ext4", Source: "/dev/vda1", Subtree: "/containers/1/hosts"}},
			Masked: []string{"/proc/kcore", "/sys/firmware"}, Guarded: []string{"/sys", "/sys/fs/cgroup", "/proc/sys"},
		},
		HostFiles: []explain.Descriptor{{FD: 7, Path: "/sys/fs/cgroup", Access: "r", Directory: true}},
	}
}

const webServerText = `Process 4711 (nginx) has a view of its own of files, network and users.
It shares with the host: clocks.

  command        nginx -g daemon off;
  program        /usr/sbin/nginx
  started by     4690 (peel)
  number inside  1
  user           100000; inside it is root

What it sees
  files          its own, together with 4750 (nginx) [11]
  network        its own, together with 4750 (nginx), 4751 and 5 more [12]
  users          its own alone [13]
  clocks         the host's [14]

Whose rights its users have
  users          0-65535 inside: 100000-165535 outside
  groups         0 inside: 1000 outside
                 1-10 inside: 100000-100009 outside

What it may do
  root's powers  2 of 41
                 over its own namespaces only: it has a user namespace of its own
    chown                give files to anybody
    net_raw              send packets of any form, as ping does
  by execution   a set-id program or root's could add: sys_admin
  no_new_privs   off: set-id programs raise powers
  system calls   filtered by 1 program (what of, can't be seen from outside)
  security label docker-default (enforce)

What it may use
  cgroup         /web (version 2)
  memory         10MiB of 512MiB
  processes      5, no limit
  processors     at most 1.5 at a time, on 0-3; 2.50 s used

What its files are
  file system    overlay, writable
  layers         /layers/b
                 /layers/a
  changes go to  /containers/1/upper
  mounted in it  /etc/hosts: /containers/1/hosts of ext4 on /dev/vda1, writable
  hidden         /proc/kcore
                 /sys/firmware
  read-only      /sys
                 /proc/sys

Files from outside that it has open
  descriptor 7   /sys/fs/cgroup (to read): a directory, from which all of its file system can be reached
`

func TestReportInWords(t *testing.T) {
	var b bytes.Buffer
	if err := writeReport(&b, webServer()); err != nil {
		t.Fatal(err)
	}
	if b.String() != webServerText {
		t.Errorf("got\n%s\nwant\n%s", &b, webServerText)
	}
}

func TestReportSays(t *testing.T) {
	for claim, c := range map[string]struct {
		change func(*explain.Report)
		want   string
	}{
		"nothing is its own": {func(r *explain.Report) {
			for i := range r.Namespaces {
				r.Namespaces[i].Host = true
			}
		}, "sees the machine as it is: nothing is its own."},
		"a mere chroot": {func(r *explain.Report) {
			r.Namespaces, r.Root.Directory = r.Namespaces[3:], "/srv"
		}, "but for its files: it is locked into a directory."},
		"all powers": {func(r *explain.Report) { r.Capabilities.Effective = 1<<41 - 1 }, "root's powers  all 41\n"},
		"nearly all": {func(r *explain.Report) { r.Capabilities.Effective = (1<<41 - 1) &^ 2 }, "40 of 41, all but dac_override\n"},
		"docker's": {func(r *explain.Report) { r.Capabilities.Effective = explain.Docker },
			"14 of 41, those that docker gives a container\n"},
		"no powers, none to gain": {func(r *explain.Report) {
			r.Capabilities, r.NoNewPrivs = explain.Capabilities{Bounding: 1, Kernel: 41}, true
		}, "root's powers  none of them\n  no_new_privs   on: nothing"},
		"no filter": {func(r *explain.Report) { r.Seccomp.Mode = "none" }, "system calls   all; no seccomp filter\n"},
		"ids as they are": {func(r *explain.Report) {
			r.UIDMap = []explain.IDRange{{Count: 1<<32 - 1}}
			r.GIDMap = r.UIDMap
		}, "the same as outside"},
		"what it lacks": {func(r *explain.Report) {
			r.Unreadable = []explain.Unreadable{{What: "mounts", Why: "permission denied"}}
		}, "What could not be read\n  mounts         permission denied\n"},
	} {
		t.Run(claim, func(t *testing.T) {
			r := webServer()
			c.change(r)
			var b bytes.Buffer
			if err := writeReport(&b, r); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(b.String(), c.want) {
				t.Errorf("got\n%s\nwant in it %q", &b, c.want)
			}
		})
	}
}

// A process chooses its name, its arguments, its mounts; none of it may reach the
// terminal as an order.
func TestReportShowsNoControlCharacters(t *testing.T) {
	const evil = "a\x1b]0;owned\a\nb\u202e"
	r := webServer()
	r.Name, r.Command, r.Executable, r.Label = evil, []string{evil}, evil, evil
	r.Parent.Name, r.Namespaces[0].With[0].Name = evil, evil
	r.Cgroup.Path, r.Cgroup.CPUSet = evil, evil
	r.Root.Directory, r.Root.Source, r.Root.Subtree, r.Root.Upper = evil, evil, evil, evil
	r.Root.Lower, r.Root.Masked, r.Root.Guarded = []string{evil}, []string{evil}, []string{evil}
	r.Root.Mounts = []explain.Mount{{At: evil, Source: evil, Subtree: evil}}
	r.HostFiles[0].Path = evil
	r.Unreadable = []explain.Unreadable{{What: "mounts", Why: evil}}
	var b bytes.Buffer
	if err := writeReport(&b, r); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(c rune) bool { return !unicode.IsPrint(c) }) {
			t.Errorf("line %q", line)
		}
	}
	if n := strings.Count(b.String(), "owned"); n < 18 {
		t.Errorf("only %d of the strings appear:\n%s", n, &b)
	}
}
