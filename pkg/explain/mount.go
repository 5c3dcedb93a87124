package explain

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Root is the process's root file system, as far as it is the process's own.
type Root struct {
	// Directory is what the process's "/" is, where that is not the root of its
	// mount namespace: it was changed by chroot.
	Directory string `json:"directory,omitempty"`
	Type      string `json:"type,omitempty"`   // overlay, erofs, ext4, ...
	Source    string `json:"source,omitempty"` // a device, or what stands for one
	Subtree   string `json:"subtree,omitempty"`
	ReadOnly  bool   `json:"readOnly"`

	// Of an overlay: its read-only layers, the uppermost first, and the directory
	// that takes the changes.
	Lower []string `json:"lower,omitempty"`
	Upper string   `json:"upper,omitempty"`
	Work  string   `json:"work,omitempty"`

	// Mounts are the places where other file systems are seen, without those that
	// the kernel makes up (proc, tmpfs and their like).
	Mounts []Mount `json:"mounts,omitempty"`
	// Masked are files and directories of /proc and /sys that something empty
	// covers; Guarded are those that can be read only.
	Masked  []string `json:"masked,omitempty"`
	Guarded []string `json:"guarded,omitempty"`
}

// Mount is a file or directory from elsewhere in the process's tree.
type Mount struct {
	At       string `json:"at"`
	Type     string `json:"type"`
	Source   string `json:"source"`
	Subtree  string `json:"subtree,omitempty"` // what of that file system is seen; empty for all
	ReadOnly bool   `json:"readOnly"`
}

// A container may mount as much as the kernel lets it, and open as much.
const (
	maxMountInfo = 64 << 20
	maxListed    = 256
)

// mountInfo is a line of /proc/PID/mountinfo (proc_pid_mountinfo(5)).
type mountInfo struct {
	id       int
	subtree  string // the mount's root within its file system
	at       string
	readOnly bool // of the mount, or all of the file system
	fsType   string
	source   string
	super    string // options of the file system, still escaped
}

func parseMountInfo(line string) (mountInfo, error) {
	bad := func() (mountInfo, error) { return mountInfo{}, fmt.Errorf("mountinfo line %q makes no sense", line) }
	// ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS [FIELD...] - TYPE SOURCE SUPER
	f := strings.Split(line, " ")
	dash := slices.Index(f, "-")
	if dash < 6 || len(f) < dash+4 {
		return bad()
	}
	id, err := strconv.Atoi(f[0])
	if err != nil {
		return bad()
	}
	m := mountInfo{
		id:      id,
		subtree: unescape(f[3]),
		at:      unescape(f[4]),
		fsType:  unescape(f[dash+1]),
		source:  unescape(f[dash+2]),
		super:   f[dash+3],
	}
	m.readOnly = hasOption(f[5], "ro") || hasOption(m.super, "ro")
	return m, nil
}

func hasOption(options, name string) bool {
	return slices.Contains(strings.Split(options, ","), name)
}

// mountInfos yields the lines of a mountinfo file. The last pair has the error
// that ended it early.
func (p *process) mountInfos(name string) func(func(mountInfo, error) bool) {
	return func(yield func(mountInfo, error) bool) {
		f, err := p.fs.Open(name)
		if err != nil {
			yield(mountInfo{}, gone(err))
			return
		}
		defer f.Close()
		lines := bufio.NewScanner(io.LimitReader(f, maxMountInfo))
		const longest = 1 << 20 // an overlay names all its layers on one
		lines.Buffer(nil, longest)
		n := 0
		for lines.Scan() {
			n += len(lines.Bytes()) + 1
			m, err := parseMountInfo(lines.Text())
			if !yield(m, err) || err != nil {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(mountInfo{}, gone(err))
		} else if n >= maxMountInfo {
			yield(mountInfo{}, fmt.Errorf("%s is larger than %d bytes", name, maxMountInfo))
		}
	}
}

// mounts reads what the root is made of and what lies over it. Of a process with
// the host's mounts only its root is of interest.
func (p *process) mounts(context.Context) error {
	root := &p.r.Root
	dir, err := p.readlink("root")
	if err != nil {
		return err
	}
	if dir != "/" {
		root.Directory = dir
	}
	own := p.r.Namespace("mnt") != nil && !p.r.Namespace("mnt").Host
	ids := map[int]bool{}
	for m, err := range p.mountInfos(p.dir + "/mountinfo") {
		if err != nil {
			return err
		}
		ids[m.id] = true
		switch {
		case m.at == "/":
			root.is(m)
		case own:
			root.over(m)
		}
	}
	if len(ids) == 0 {
		return errors.New("no mounts: it is ending")
	}
	if own {
		p.ids = ids
	}
	return nil
}

// is takes in the mount that is "/". A later one covers those before.
func (r *Root) is(m mountInfo) {
	r.Type, r.Source, r.Subtree, r.ReadOnly = m.fsType, m.source, subtree(m), m.readOnly
	r.Lower, r.Upper, r.Work = nil, "", ""
	if m.fsType == "overlay" {
		r.layers(m.super)
	}
}

func subtree(m mountInfo) string {
	if m.subtree == "/" {
		return ""
	}
	return m.subtree
}

// layers reads an overlay's options. Commas are escaped with octal numbers, as all
// is, and below that the overlay's own colons with backslashes; lowerdir+ names one
// layer where lowerdir names all.
func (r *Root) layers(super string) {
	for option := range strings.SplitSeq(super, ",") {
		key, value, _ := strings.Cut(option, "=")
		value = unescape(value)
		switch key {
		case "lowerdir":
			for _, dir := range splitColons(value) {
				if dir != "" { // "::" sets data-only layers apart
					r.Lower = append(r.Lower, unslash(dir))
				}
			}
		case "lowerdir+", "datadir+":
			r.Lower = append(r.Lower, unslash(value))
		case "upperdir":
			r.Upper = unslash(value)
		case "workdir":
			r.Work = unslash(value)
		}
	}
}

// splitColons splits at colons that no backslash precedes.
func splitColons(s string) []string {
	var parts []string
	start := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case ':':
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return append(parts, s[start:])
}

func unslash(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// over takes in a mount above the root.
func (r *Root) over(m mountInfo) {
	list := func(to *[]string) {
		if len(*to) < maxListed {
			*to = append(*to, m.at)
		}
	}
	inKernel := under(m.at, "/proc") || under(m.at, "/sys")
	switch {
	case inKernel && (m.subtree == "/null" || m.fsType == "tmpfs" && m.readOnly && !under(m.at, "/sys/fs/cgroup")):
		// /dev/null bound over a file, or an empty file system over a directory: what
		// runtime-spec calls masked paths.
		list(&r.Masked)
	case inKernel && m.readOnly:
		list(&r.Guarded)
	case !madeUp[m.fsType] && len(r.Mounts) < maxListed:
		r.Mounts = append(r.Mounts, Mount{m.at, m.fsType, m.source, subtree(m), m.readOnly})
	}
}

// under tells whether name is dir or lies beneath it.
func under(name, dir string) bool {
	return name == dir || strings.HasPrefix(name, dir+"/")
}

// madeUp are the file systems that show nothing which is stored anywhere.
var madeUp = map[string]bool{
	"proc": true, "sysfs": true, "tmpfs": true, "devtmpfs": true, "devpts": true, "mqueue": true, "cgroup": true, "cgroup2": true,
	"securityfs": true, "debugfs": true, "tracefs": true, "bpf": true, "pstore": true, "configfs": true, "binfmt_misc": true,
	"hugetlbfs": true, "fusectl": true, "nsfs": true, "efivarfs": true, "selinuxfs": true, "ramfs": true, "autofs": true, "rpc_pipefs": true,
}

// relative makes an absolute name one for fs.FS.
func relative(name string) string {
	if name = strings.TrimPrefix(path.Clean(name), "/"); name != "" {
		return name
	}
	return "."
}
