// Package users turns docker's user string, user[:group], into ids, by the
// passwd and group files of a root file system. Both files and the string come
// from strangers: files are read within bounds, and a string that two readers
// could take two ways is refused.
package users

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"peel/pkg/run/internal/inroot"
)

// Bounds of what is read from an image.
const (
	maxFile   = 16 << 20
	maxLine   = 1 << 20
	maxGroups = 65536 // the kernel's NGROUPS_MAX
	maxID     = 1<<31 - 1
)

// User is who a process runs as.
type User struct {
	UID, GID uint32
	// Groups are the supplementary groups, GID first: a process that gives up
	// its primary group must not lose membership of it (CVE-2022-36109).
	Groups []uint32
	// Home is empty where passwd has no entry.
	Home string
}

type image struct {
	root inroot.Root
	proc int
}

// SyntaxError is a user string that is refused.
type SyntaxError struct{ Spec, Reason string }

func (e *SyntaxError) Error() string { return fmt.Sprintf("user %q: %s", e.Spec, e.Reason) }

// NotFoundError is a name that the image does not know.
type NotFoundError struct{ Kind, Name string } // Kind is "user" or "group"

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("%s %q is not in the image's /etc/%s", e.Kind, e.Name, map[string]string{"user": "passwd", "group": "group"}[e.Kind])
}

// Lookup resolves spec in root. An empty spec is root. proc is a trusted procfs,
// as Root.ReadFile wants it.
func Lookup(root inroot.Root, proc int, spec string) (User, error) {
	in := image{root, proc}
	name, group, explicit := strings.Cut(spec, ":")
	if spec == "" {
		name = "0"
	}
	switch {
	case name == "":
		return User{}, &SyntaxError{spec, "no user before the colon"}
	case explicit && group == "":
		return User{}, &SyntaxError{spec, "no group after the colon"}
	case strings.ContainsAny(spec, "\x00\n\r,") || strings.Contains(group, ":"):
		return User{}, &SyntaxError{spec, "not user[:group]"}
	}
	uid, numeric, err := parseID(spec, name)
	if err != nil {
		return User{}, err
	}
	u := User{UID: uid}
	found := false
	err = in.eachLine("/etc/passwd", func(f []string) {
		if found || len(f) < 6 {
			return
		}
		id, ok1 := entryID(f[2])
		gid, ok2 := entryID(f[3])
		if !ok1 || !ok2 || f[0] == "" || (numeric && id != uid) || (!numeric && f[0] != name) {
			return
		}
		found, name = true, f[0]
		u.UID, u.GID, u.Home = id, gid, f[5]
	})
	if err != nil {
		return User{}, err
	}
	if !found && !numeric {
		return User{}, &NotFoundError{"user", name}
	}
	if explicit {
		if u.GID, err = in.lookupGroup(spec, group); err != nil {
			return User{}, err
		}
		u.Groups = []uint32{u.GID}
		return u, nil
	}
	u.Groups = []uint32{u.GID}
	if !found {
		return u, nil
	}
	have := map[uint32]bool{u.GID: true}
	err = in.eachLine("/etc/group", func(f []string) {
		if len(f) < 4 || len(u.Groups) > maxGroups {
			return
		}
		gid, ok := entryID(f[2])
		if ok && !have[gid] && slices.Contains(strings.Split(f[3], ","), name) {
			have[gid] = true
			u.Groups = append(u.Groups, gid)
		}
	})
	if err == nil && len(u.Groups) > maxGroups {
		err = &SyntaxError{spec, "in more groups than a process can have"}
	}
	return u, err
}

func (in image) lookupGroup(spec, group string) (uint32, error) {
	gid, numeric, err := parseID(spec, group)
	if err != nil || numeric {
		return gid, err
	}
	found := false
	err = in.eachLine("/etc/group", func(f []string) {
		if found || len(f) < 3 || f[0] != group {
			return
		}
		gid, found = entryID(f[2])
	})
	if err == nil && !found {
		err = &NotFoundError{"group", group}
	}
	return gid, err
}

// parseID reads a word of the user string. All digits is an id, never a name.
func parseID(spec, word string) (id uint32, numeric bool, err error) {
	if strings.Trim(word, "0123456789") != "" {
		// 0x0, +0, -1: names, which the image may or may not know.
		return 0, false, nil
	}
	n, err := strconv.ParseUint(word, 10, 64)
	switch {
	case err != nil || n > maxID:
		// 2^32 would wrap to root (CVE-2024-40635), and 2^32-1 means "unchanged".
		return 0, true, &SyntaxError{spec, fmt.Sprintf("id %s is above %d", word, maxID)}
	case len(word) > 1 && word[0] == '0':
		return 0, true, &SyntaxError{spec, "leading zero in " + word}
	}
	return uint32(n), true, nil
}

func entryID(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 31)
	return uint32(n), err == nil
}

// eachLine calls f with the fields of every line. A file that is not there has
// no lines.
func (in image) eachLine(name string, f func(fields []string)) error {
	file, err := in.root.ReadFile(in.proc, name, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	// The file may grow under a running container.
	if err := parse(io.LimitReader(file, maxFile), f); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func parse(r io.Reader, f func(fields []string)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		if l := strings.TrimSpace(lines.Text()); l != "" && l[0] != '#' {
			f(strings.Split(l, ":"))
		}
	}
	return lines.Err()
}
