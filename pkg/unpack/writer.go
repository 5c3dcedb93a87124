package unpack

import (
	"golang.org/x/sys/unix"

	"peel/pkg/layers/changeset"
)

// writer makes files. One writer is one goroutine, and from its first file of
// another owner on one thread.
type writer struct {
	caller *caller
	me     identity
}

func newWriter(c *caller) *writer { return &writer{caller: c, me: newIdentity(c)} }

// batch does all jobs of b. An error is an *EntryError.
func (w *writer) batch(b *batch) error {
	for i := range b.jobs {
		j := &b.jobs[i]
		var op string
		var err error
		switch j.kind {
		case makeFile:
			op, err = w.file(b, j)
		case makeSymlink:
			op, err = w.symlink(b, j)
		case makeNode:
			op, err = w.node(b, j)
		case writePart:
			op, err = "write", w.pieces(b, j, j.large.fd, true)
		}
		if err == nil {
			continue
		}
		if e, ok := err.(*EntryError); ok {
			return e
		}
		return &EntryError{Name: b.entryName(j), Op: op, Err: err}
	}
	return nil
}

func (b *batch) entryName(j *job) string {
	if j.large != nil {
		return j.large.name
	}
	name := b.text(j.name)
	return j.dir.join(string(name[:len(name)-1]))
}

// label is an entry's name, put together only when something is to be said of it.
type label struct {
	b    *batch
	j    *job
	name string
}

func (l label) String() string {
	if l.b == nil {
		return l.name
	}
	return l.b.entryName(l.j)
}

const createFlags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW

func (w *writer) file(b *batch, j *job) (op string, err error) {
	w.me.take(j.attrs.uid, j.attrs.gid)
	made := j.attrs.real & 0o777 // set-id bits wait: writing takes them away
	name := b.text(j.name)
	fd, err := createAnew(j.dirfd, name, made)
	if err != nil {
		return "create", err
	}
	if err := w.pieces(b, j, fd, false); err != nil {
		unix.Close(fd)
		return "write", err
	}
	uid, gid := w.me.uid, w.me.gid
	if w.me.fresh {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			unix.Close(fd)
			return "stat", err
		}
		uid, gid = w.me.confirm(st.Uid, st.Gid)
	}
	op, err = settle(b.stage.shared, fd, uid, gid, made&^w.caller.umask, &j.attrs, label{b: b, j: j})
	if closeErr := unix.Close(fd); err == nil {
		op, err = "close", closeErr
	}
	return op, err
}

// createAnew creates a file in a place that an earlier entry of the same layer
// may have taken: the last one counts. It does not truncate what is there, which
// may have a second name.
func createAnew(dirfd int, name []byte, mode uint32) (int, error) {
	fd, err := openat(dirfd, name, createFlags, mode)
	if err != unix.EEXIST {
		return fd, err
	}
	if err := unlinkat(dirfd, name, 0); err != nil {
		return -1, err
	}
	return openat(dirfd, name, createFlags, mode)
}

// again does make, which creates name; if something has the name, that goes first.
func again(dirfd int, name []byte, make func() error) error {
	err := make()
	if err != unix.EEXIST {
		return err
	}
	if err := unlinkat(dirfd, name, 0); err != nil {
		return err
	}
	return make()
}

// settle gives a new file or directory the attributes that it does not have yet.
// made and the ids are what it was created with. The order is law: chown(2) clears
// set-id bits and security.capability, and times come last.
func settle(s *shared, fd int, uid, gid, made uint32, a *attrs, called label) (op string, err error) {
	lost, err := s.chown(a, uid, gid, called, func(u, g uint32) error { return unix.Fchown(fd, int(int32(u)), int(int32(g))) })
	if err != nil {
		return "", err
	}
	for _, x := range a.xattrs {
		err := unix.Fsetxattr(fd, x.name, x.value, 0)
		if err := s.xattrOutcome(x.name, called, err); err != nil {
			return "", err
		}
	}
	if a.real != made || len(a.xattrs) > 0 {
		if err := unix.Fchmod(fd, a.real); err != nil {
			return "chmod", err
		}
	}
	if lost != nil && !a.numbered() { // no record has room for such a number
		if err := s.losses.Lose(changeset.LostOwner, called.String(), "chown", lost); err != nil {
			return "", err
		}
		lost = nil
	}
	if lost != nil || !s.caller.owners || a.stands() {
		if err := s.record(fd, a, lost, called); err != nil {
			return "", err
		}
	}
	if err := futimens(fd, &a.times); err != nil {
		return "set times", err
	}
	return "", nil
}

// chown sees to the owner of something that belongs to uid and gid, by change
// where that can do any good. lost is why the owner is another one now.
func (s *shared) chown(a *attrs, uid, gid uint32, called label, change func(uid, gid uint32) error) (lost, err error) {
	u, g := a.chownWanted(uid, gid)
	switch {
	case !s.caller.owners && a.uid == 0 && a.gid == 0:
		return nil, nil // for whom the caller stands
	case !s.caller.owners:
		return unix.EPERM, nil
	case u == noID && g == noID && a.numbered():
		return nil, nil
	case !s.caller.can(a.uid, a.gid):
		return unix.EINVAL, nil // what the kernel would say
	}
	if err = change(u, g); err == nil || tolerable(err) {
		return err, nil
	}
	return nil, &EntryError{Name: called.String(), Op: "chown", Err: err}
}

func (s *shared) xattrOutcome(attr string, called label, err error) error {
	if err == nil {
		return nil
	}
	op := "set " + changeset.Printable(attr)
	if !tolerable(err) {
		return &EntryError{Name: called.String(), Op: op, Err: err}
	}
	return s.losses.Lose(changeset.LostXattr, called.String(), op, err)
}

func (w *writer) symlink(b *batch, j *job) (op string, err error) {
	w.me.take(j.attrs.uid, j.attrs.gid)
	name := b.text(j.name)
	if err := again(j.dirfd, name, func() error { return symlinkat(b.text(j.link), j.dirfd, name) }); err != nil {
		return "symlink", err
	}
	return w.settleAt(b, j, false)
}

func (w *writer) node(b *batch, j *job) (op string, err error) {
	w.me.take(j.attrs.uid, j.attrs.gid)
	name := b.text(j.name)
	a := &j.attrs
	if !w.caller.owners || a.numbered() && !w.caller.can(a.uid, a.gid) {
		return w.file(b, j) // nothing else has attributes to record its owner in
	}
	err = again(j.dirfd, name, func() error { return mknodat(j.dirfd, name, a.typ|a.real&0o777, a.dev) })
	if err == unix.EPERM && a.typ != unix.S_IFIFO {
		return w.file(b, j) // only root of the machine may make devices
	}
	if err != nil {
		return "mknod", err
	}
	return w.settleAt(b, j, a.real&(0o7000|w.caller.umask) != 0)
}

// settleAt is settle for what must not be opened: links, devices and FIFOs. They
// are named in their directory, and never followed.
func (w *writer) settleAt(b *batch, j *job, chmod bool) (op string, err error) {
	a, s, name := &j.attrs, b.stage.shared, b.text(j.name)
	called := label{b: b, j: j}
	uid, gid := w.me.uid, w.me.gid
	if w.me.fresh {
		var st unix.Stat_t
		if err := unix.Fstatat(j.dirfd, string(name[:len(name)-1]), &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return "stat", err
		}
		uid, gid = w.me.confirm(st.Uid, st.Gid)
	}
	lost, err := s.chown(a, uid, gid, called, func(u, g uint32) error { return lchownat(j.dirfd, name, u, g) })
	if err == nil && lost != nil { // and cannot be recorded: see xattr(7), "Extended user attributes"
		err = s.losses.Lose(changeset.LostOwner, called.String(), "chown", lost)
	}
	if err != nil {
		return "", err
	}
	if chmod || len(a.xattrs) > 0 {
		if op, err := settleByHandle(s, j.dirfd, name, chmod, a, called); err != nil {
			return op, err
		}
	}
	if err := lutimesat(j.dirfd, name, &a.times); err != nil {
		return "set times", err
	}
	return "", nil
}

// settleByHandle sets what can only be set by path, on an O_PATH descriptor, so
// that the path is one of our own.
func settleByHandle(s *shared, dirfd int, name []byte, chmod bool, a *attrs, called label) (op string, err error) {
	fd, err := openat(dirfd, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "open", err
	}
	defer unix.Close(fd)
	for _, x := range a.xattrs {
		// The descriptor stands for the link itself: following /proc/self/fd/N ends there.
		err := unix.Setxattr(procPath(fd), x.name, x.value, 0)
		if err := s.xattrOutcome(x.name, called, err); err != nil {
			return "", err
		}
	}
	if chmod {
		if err := unix.Chmod(procPath(fd), a.real); err != nil {
			return "chmod", err
		}
	}
	return "", nil
}

// pieces writes a job's bytes to fd. Whole files that are not sparse go in order,
// parts and files with holes where they belong.
func (w *writer) pieces(b *batch, j *job, fd int, part bool) error {
	at := int64(0)
	for _, p := range b.pieces[j.lo:j.hi] {
		off := int64(-1)
		if part || at != p.off {
			off, part = p.off, true
		}
		if err := writeAll(fd, p.bytes, off); err != nil {
			return err
		}
		at = p.off + int64(len(p.bytes))
	}
	if j.large == nil && at < j.size {
		return unix.Ftruncate(fd, j.size)
	}
	return nil
}
