// Package userns finds out which ids a user may have in a user namespace of his
// own, and gives them to one.
//
// Everybody may map his own id. More come from the administrator, as ranges in
// /etc/subuid and /etc/subgid, and are mapped by newuidmap(1) and newgidmap(1),
// which have the privilege for it and check the ranges.
package userns

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Maps are the ids of a user namespace.
type Maps struct{ UIDs, GIDs []specs.LinuxIDMapping }

// Single maps root of the namespace to this user, and nothing else.
func Single() Maps {
	one := func(id int) []specs.LinuxIDMapping {
		return []specs.LinuxIDMapping{{ContainerID: 0, HostID: uint32(id), Size: 1}}
	}
	return Maps{one(os.Geteuid()), one(os.Getegid())}
}

// Own are the ids that this user has: himself as root, and above that his
// subordinate ranges, if he has any and the programs that map them are there.
func Own() Maps {
	m := Single()
	u, err := user.LookupId(strconv.Itoa(os.Geteuid()))
	if err != nil {
		return m // a user whom the system does not know has no ranges
	}
	for _, name := range helpers {
		if _, err := helper(name); err != nil {
			return m
		}
	}
	uids, gids := ranges("/etc/subuid", u), ranges("/etc/subgid", u)
	if len(uids) == 0 || len(gids) == 0 {
		return m
	}
	return Maps{append(m.UIDs, uids...), append(m.GIDs, gids...)}
}

// helpers map ranges, uids first.
var helpers = [...]string{"newuidmap", "newgidmap"}

// helper finds one of them where systems keep set-user-id programs. PATH is not
// asked: a monitor has none.
func helper(name string) (string, error) {
	for _, dir := range []string{"/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/run/wrappers/bin", "/run/current-system/sw/bin"} {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, exec.ErrNotFound)
}

// ranges are a user's entries of a file, "NAME|UID:FIRST:COUNT", one after the
// other from 1 on. What cannot be read gives nothing: it is no one's.
func ranges(file string, u *user.User) []specs.LinuxIDMapping {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	return parseRanges(f, u.Username, u.Uid)
}

// maxID bounds the ids that are used: programs keep them in an int.
const maxID = 1<<31 - 1

func parseRanges(r io.Reader, names ...string) []specs.LinuxIDMapping {
	var out []specs.LinuxIDMapping
	next := uint64(1)
	for lines := bufio.NewScanner(r); lines.Scan(); {
		f := strings.Split(strings.TrimSpace(lines.Text()), ":")
		if len(f) != 3 || f[0] == "" || (f[0] != names[0] && f[0] != names[1]) {
			continue
		}
		first, err1 := strconv.ParseUint(f[1], 10, 32)
		count, err2 := strconv.ParseUint(f[2], 10, 32)
		if err1 != nil || err2 != nil || first == 0 || count == 0 || first+count > 1<<32-1 || next+count > maxID {
			continue
		}
		out = append(out, specs.LinuxIDMapping{ContainerID: uint32(next), HostID: uint32(first), Size: uint32(count)})
		next += count
	}
	return out
}

// NeedsHelpers says whether the kernel would refuse these maps from this user.
func (m Maps) NeedsHelpers() bool {
	if os.Geteuid() == 0 {
		return false
	}
	own := Single()
	return len(m.UIDs) != 1 || len(m.GIDs) != 1 || m.UIDs[0].Size != 1 || m.GIDs[0].Size != 1 ||
		m.UIDs[0].HostID != own.UIDs[0].HostID || m.GIDs[0].HostID != own.GIDs[0].HostID
}

// Give gives the ids to the namespace of a process that waits for them.
func (m Maps) Give(pid int) error {
	for i, ids := range [][]specs.LinuxIDMapping{m.UIDs, m.GIDs} {
		args := []string{strconv.Itoa(pid)}
		for _, id := range ids {
			args = append(args, fmt.Sprint(id.ContainerID), fmt.Sprint(id.HostID), fmt.Sprint(id.Size))
		}
		path, err := helper(helpers[i])
		if err != nil {
			return err
		}
		cmd := exec.Command(path, args...)
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w", helpers[i], errors.Join(err, sayer(said.String())))
		}
	}
	return nil
}

func sayer(s string) error {
	if s = strings.TrimSpace(s); s == "" {
		return nil
	}
	return errors.New(s)
}
