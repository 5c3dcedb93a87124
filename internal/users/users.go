// Package users turns an image's user string into ids, by the image's own files.
//
// The string is docker's: nothing, USER or USER:GROUP, each a number or a name of
// /etc/passwd and /etc/group. The string and both files come from a stranger, so
// nothing is taken in two ways: a word of digits is an id and never a name, any
// other word is a name and never an id, and a line that is not as it should be is
// no line at all.
package users

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"peel/internal/beneath"
)

// User is who a process runs as.
type User struct {
	UID, GID uint32

	// Groups are the supplementary groups, GID first: a process that could drop
	// its membership of it would get at what is forbidden to the group
	// (CVE-2022-36109).
	Groups []uint32

	// Home is the user's directory, empty if /etc/passwd has none for him.
	Home string
}

// maxID is the largest id allowed. Above it, programs that keep ids in an int see
// a negative one, and 2^32 becomes root (CVE-2024-40635).
const maxID = 1<<31 - 1

// maxGroups is the kernel's NGROUPS_MAX.
const maxGroups = 65536

// SyntaxError is a user string that is refused, whatever the image's files say.
type SyntaxError struct {
	User   string
	Reason string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("user %s: %s", quote(e.User), e.Reason) }

// quote makes a name from an image fit for a line of text.
func quote(name string) string {
	const longest = 100
	if len(name) > longest {
		name = name[:longest] + "..."
	}
	return strconv.Quote(name)
}

// UnknownError is a name that the image's file does not have.
type UnknownError struct {
	Name string
	File string // /etc/passwd or /etc/group
}

func (e *UnknownError) Error() string {
	return fmt.Sprintf("%s is not in the image's %s", quote(e.Name), e.File)
}

// Lookup resolves a user string in the file system below root. No string is root; a number without an entry is itself, with group 0.
// A group named in the string is the only one that the user gets.
func Lookup(root *beneath.Dir, user string) (User, error) {
	name, group, hasGroup := strings.Cut(user, ":")
	if user == "" {
		name = "0"
	}
	uid, isID, err := word(user, name)
	if err != nil {
		return User{}, err
	}
	u := User{UID: uid}
	found := false
	err = eachLine(root, passwdFile, func(f []string) bool {
		if len(f) < 6 || f[0] == "" {
			return true
		}
		id, ok1 := parseID(f[2])
		gid, ok2 := parseID(f[3])
		if !ok1 || !ok2 || isID && id != uid || !isID && f[0] != name {
			return true
		}
		found, name = true, f[0]
		u.UID, u.GID, u.Home = id, gid, f[5]
		return false
	})
	if err != nil {
		return User{}, err
	}
	if !found && !isID {
		return User{}, &UnknownError{name, passwdFile}
	}
	if hasGroup {
		u.GID, err = lookupGroup(root, user, group)
		u.Groups = []uint32{u.GID}
		return u, err
	}
	u.Groups = []uint32{u.GID}
	if found {
		u.Groups, err = groupsOf(root, user, name, u.Groups)
	}
	return u, err
}

func lookupGroup(root *beneath.Dir, user, group string) (uint32, error) {
	gid, isID, err := word(user, group)
	if err != nil || isID {
		return gid, err
	}
	found := false
	err = eachLine(root, groupFile, func(f []string) bool {
		if len(f) >= 3 && f[0] == group {
			gid, found = parseID(f[2])
		}
		return !found
	})
	if err == nil && !found {
		err = &UnknownError{group, groupFile}
	}
	return gid, err
}

// groupsOf adds the groups that list a user's name.
func groupsOf(root *beneath.Dir, user, name string, groups []uint32) ([]uint32, error) {
	seen := map[uint32]bool{groups[0]: true}
	err := eachLine(root, groupFile, func(f []string) bool {
		if len(f) < 4 {
			return true
		}
		gid, ok := parseID(f[2])
		if ok && !seen[gid] && slices.Contains(strings.Split(f[3], ","), name) {
			seen[gid] = true
			groups = append(groups, gid)
		}
		return len(groups) <= maxGroups
	})
	if err == nil && len(groups) > maxGroups {
		err = &SyntaxError{user, "in more groups than a process can have"}
	}
	return groups, err
}

// word reads one half of a user string.
func word(user, s string) (id uint32, isID bool, err error) {
	switch {
	case s == "":
		return 0, false, &SyntaxError{user, "nothing on one side of the colon"}
	case strings.Trim(s, "0123456789") == "":
		// Nobody agrees on what a leading zero means.
		if id, isID = parseID(s); !isID || len(s) > 1 && s[0] == '0' {
			return 0, false, &SyntaxError{user, fmt.Sprintf("%s is no id from 0 to %d", quote(s), maxID)}
		}
		return id, true, nil
	case s[0] == '+' || s[0] == '-':
		// Others read +0 as 0. In passwd, such names are NIS's, not users.
		return 0, false, &SyntaxError{user, "a sign is no part of a name or an id"}
	case strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == ':' || r == ',' }):
		return 0, false, &SyntaxError{user, "not USER or USER:GROUP"}
	}
	return 0, false, nil
}

func parseID(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && n <= maxID
}
