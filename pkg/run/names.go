package run

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
)

// validName is docker's rule: [a-zA-Z0-9][a-zA-Z0-9_.-]*. No name is a path.
func validName(name string) bool {
	if name == "" || len(name) > 128 {
		return false
	}
	for i, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case i > 0 && (c == '_' || c == '.' || c == '-'):
		default:
			return false
		}
	}
	return true
}

func checkName(name string) error {
	if !validName(name) {
		return fmt.Errorf("container name %q: only [a-zA-Z0-9][a-zA-Z0-9_.-]* are allowed", name)
	}
	return nil
}

func newID() string {
	b := make([]byte, 32)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

func isID(s string) bool {
	if len(s) != 64 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// A name is a symbolic link to an id: to make one is atomic and fails where one
// is, so names are unique without a lock that all containers would share.
func (rt *Runtime) nameLink(name string) string { return filepath.Join(rt.names(), name) }

// claim gives a name to the container id, which exists.
func (rt *Runtime) claim(name, id string) error {
	for {
		err := os.Symlink(id, rt.nameLink(name))
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		owner, err := os.Readlink(rt.nameLink(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if _, err := os.Lstat(rt.dataDir(owner)); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return &NameInUseError{name, owner}
		}
		// Left by a creator or a remover that was killed.
		if err := rt.release(name, owner); err != nil {
			return err
		}
	}
}

// release takes a name from the container id, unless another has it by now. The
// lock is against a claim between the look and the removal.
func (rt *Runtime) release(name, id string) error {
	lock, err := lockFile(filepath.Join(rt.names(), ".lock"), true)
	if err != nil {
		return err
	}
	defer lock.Close()
	owner, err := os.Readlink(rt.nameLink(name))
	if errors.Is(err, fs.ErrNotExist) || (err == nil && owner != id) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Remove(rt.nameLink(name))
}

// Rename gives the container another name. The name it had is free when that is
// done; a *NameInUseError says who has the new one. This Container's own record
// stays as it was read: others may be using it.
func (c *Container) Rename(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	// Against another renaming of the same container.
	lock, err := lockFile(filepath.Join(c.rt.names(), ".rename"), true)
	if err != nil {
		return err
	}
	defer lock.Close()
	now, err := c.rt.load(c.ID)
	if err != nil {
		return err
	}
	if now.Name == name {
		return fmt.Errorf("container %.12s is named %s already", c.ID, name)
	}
	if err := c.rt.claim(name, c.ID); err != nil {
		return err
	}
	old := now.Name
	now.Name = name
	// Whoever is killed here leaves a container that both names lead to.
	if err := writeJSON(c.rt.recordFile(c.ID), &now.Record, !c.AutoRemove); err != nil {
		return errors.Join(err, c.rt.release(name, c.ID))
	}
	return c.rt.release(old, c.ID)
}

// randomName makes a name that can be remembered and typed.
func randomName() string {
	moods := [...]string{
		"amber", "bold", "brisk", "calm", "clever", "crisp", "deft", "eager", "fair", "fleet", "fresh", "gentle", "glad", "keen",
		"lively", "lucid", "mellow", "merry", "neat", "nimble", "plain", "proud", "quick", "quiet", "ripe", "sharp", "sly", "snug",
		"spry", "steady", "sunny", "swift", "tidy", "vivid", "warm", "witty", "zesty",
	}
	fruits := [...]string{
		"almond", "apple", "apricot", "banana", "cherry", "citron", "clementine", "date", "fig", "grape", "guava", "hazel", "kiwi",
		"kumquat", "lemon", "lime", "lychee", "mandarin", "mango", "medlar", "melon", "nectarine", "olive", "orange", "papaya",
		"peach", "pear", "persimmon", "plum", "pomelo", "quince", "satsuma", "tangerine", "walnut", "yuzu",
	}
	return fmt.Sprintf("%s_%s", moods[mathrand.IntN(len(moods))], fruits[mathrand.IntN(len(fruits))])
}
