// Package apparmor makes a container's AppArmor profile and loads it into the
// kernel, without AppArmor's own compiler.
//
// A profile is a list of rules over path patterns. The kernel wants it as
// automata that read a path byte by byte and end in a state that has the
// permissions: the rules are compiled to those (dfa.go), and packed in the form
// that policy_unpack.c of the kernel reads (pack.go).
package apparmor

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// DefaultName is the profile that Default makes.
const DefaultName = "peel-default"

const (
	enabledFile = "/sys/module/apparmor/parameters/enabled"
	policyDir   = "/sys/kernel/security/apparmor"
)

// Enabled says whether the kernel has AppArmor and uses it.
func Enabled() bool {
	b, err := os.ReadFile(enabledFile)
	return err == nil && strings.HasPrefix(string(b), "Y")
}

// CanLoad says whether this process can load profiles: not within a container,
// where the file system for it is not mounted, nor without CAP_MAC_ADMIN.
func CanLoad() bool {
	return Enabled() && unix.Access(policyDir+"/.load", unix.W_OK) == nil
}

// Loaded says whether the kernel has a profile of this name.
func Loaded(name string) (bool, error) {
	b, err := os.ReadFile(policyDir + "/profiles")
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(b)) { // "name (enforce)"; names have spaces too
		if i := strings.LastIndex(line, " ("); i >= 0 && line[:i] == name {
			return true, nil
		}
	}
	return false, nil
}

// LoadDefault loads the profile DefaultName, unless the kernel has it.
func LoadDefault() error {
	if have, err := Loaded(DefaultName); have || err != nil {
		return err
	}
	f, err := os.OpenFile(policyDir+"/.load", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	// One write: each is a policy of its own. Another process may have been
	// faster.
	if _, err := unix.Write(int(f.Fd()), Default().pack(DefaultName)); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load profile %s: %w", DefaultName, err)
	}
	return nil
}
