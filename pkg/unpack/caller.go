package unpack

import (
	"bytes"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// caller is what the calling process may do, read once an image.
type caller struct {
	uid, gid uint32 // that new files get
	umask    uint32
	// owners: it may give files to whom it likes, among the ids of its user
	// namespace, and work on those of every owner and mode. Without, all files are
	// its own.
	owners     bool
	uids, gids idRanges
	// fsids: a thread may take any owner for what it creates, and keep what it may
	// do otherwise.
	fsids bool
	caps  [2]unix.CapUserData
}

func whoAmI() caller {
	c := caller{uid: uint32(unix.Geteuid()), gid: uint32(unix.Getegid()), umask: umask()}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&hdr, &c.caps[0]); err != nil {
		return c
	}
	has := func(capability int) bool {
		return c.caps[capability/32].Effective>>(capability%32)&1 != 0
	}
	c.owners = has(unix.CAP_CHOWN) && has(unix.CAP_DAC_OVERRIDE) && has(unix.CAP_FOWNER) && has(unix.CAP_FSETID)
	c.fsids = c.uid == 0 && c.owners && has(unix.CAP_SETUID) && has(unix.CAP_SETGID)
	c.uids, c.gids = readRanges("/proc/self/uid_map"), readRanges("/proc/self/gid_map")
	return c
}

// can tells whether a file may belong to uid and gid, as far as ids go.
func (c *caller) can(uid, gid uint32) bool { return c.uids.has(uid) && c.gids.has(gid) }

// umask reads the process's mask without the race that setting it would be.
// Where /proc does not tell, every bit counts as masked: that costs a chmod a
// file, and is never wrong.
func umask() uint32 {
	const field = "\nUmask:\t"
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0o777
	}
	_, rest, ok := bytes.Cut(status, []byte(field))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	mask, err := strconv.ParseUint(string(line), 8, 32)
	if !ok || err != nil {
		return 0o777
	}
	return uint32(mask)
}

// identity is whose files a thread creates. Creating a file as its owner costs
// nothing, a chown afterwards is a fifth of creating it.
//
// take locks the goroutine to its thread when it first leaves the caller's own
// ids, and it is never unlocked: the thread dies with the goroutine instead of
// serving another one under a strange identity.
type identity struct {
	caller   *caller
	uid, gid uint32
	locked   bool
	fresh    bool // taken since anything was created
	broken   bool // the kernel does not do what it is asked
}

func newIdentity(c *caller) identity {
	return identity{caller: c, uid: c.uid, gid: c.gid, broken: !c.fsids}
}

// take sees to it that this thread's new files belong to uid and gid, if it can.
// What it could not do shows in id.uid and id.gid.
func (id *identity) take(uid, gid uint32) {
	if !id.caller.can(uid, gid) {
		uid, gid = id.caller.uid, id.caller.gid
	}
	if uid == id.uid && gid == id.gid || id.broken {
		return
	}
	if !id.locked {
		runtime.LockOSThread()
		id.locked = true
	}
	if !setfsid(unix.SYS_SETFSGID, gid) || !setfsid(unix.SYS_SETFSUID, uid) || !id.raise() {
		id.abandon()
		return
	}
	id.uid, id.gid, id.fresh = uid, gid, true
}

// confirm compares with whose the first thing is that was created after take. Where
// file systems choose owners themselves (the option grpid, a squashing server),
// the ids are good for nothing. It returns the true ones.
func (id *identity) confirm(uid, gid uint32) (uint32, uint32) {
	id.fresh = false
	if uid != id.uid || gid != id.gid {
		id.abandon()
	}
	return uid, gid
}

// abandon goes back to the caller's own ids, and stays there.
func (id *identity) abandon() {
	setfsid(unix.SYS_SETFSUID, id.caller.uid)
	setfsid(unix.SYS_SETFSGID, id.caller.gid)
	id.raise()
	id.uid, id.gid, id.broken = id.caller.uid, id.caller.gid, true
}

// setfsid makes the call and asks what came of it: it reports no errors.
func setfsid(call uintptr, id uint32) bool {
	const ask = ^uintptr(0) // -1 is no id, and changes nothing
	unix.RawSyscall(call, uintptr(id), 0, 0)
	now, _, _ := unix.RawSyscall(call, ask, 0, 0)
	return uint32(now) == id
}

// raise gives the thread its effective capabilities back: setfsuid takes those
// that concern files away when it leaves 0 (capabilities(7)).
func (id *identity) raise() bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	caps := id.caller.caps
	return unix.Capset(&hdr, &caps[0]) == nil
}
