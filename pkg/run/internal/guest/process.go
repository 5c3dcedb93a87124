package guest

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"peel/internal/users"
	"peel/pkg/run/internal/proto"
	"peel/pkg/run/internal/seccomp"
)

// process is a program about to start in a container: its first one, or one
// that joins. Its methods change the calling thread, which is locked.
type process struct {
	spec   *specs.Process
	user   users.User
	filter *seccomp.Program
	pty    pty
	proc   int     // a trusted procfs
	root   rootDir // "/", open until execve
	self   int     // as guest.self
	// program is what Args[0] names, once it has been looked for.
	program string
	// explain answers for why on another thread; nil: this one can.
	explain func(program string, errno syscall.Errno) string
}

// process looks the user up while the root is still under our hands.
func (g *guest) process() (*process, error) {
	p := &process{spec: g.Spec.Process, pty: g.pty, proc: g.proc, self: g.self, filter: program(g.Filter)}
	u := p.spec.User
	word := g.User
	if word == "" {
		word = strconv.FormatUint(uint64(u.UID), 10)
	}
	found, err := users.Lookup(g.root.dir, word)
	switch {
	case g.User == "":
		// The ids are settled; passwd only knows the home directory, and may as
		// well not exist.
		p.user = users.User{UID: u.UID, GID: u.GID, Groups: u.AdditionalGids, Home: found.Home}
	case err != nil:
		return nil, proto.Fail("user", "", err)
	default:
		p.user = found // with his groups, and not those of the config's user
	}
	return p, nil
}

func program(f *proto.Filter) *seccomp.Program {
	if f == nil || len(f.Code) == 0 {
		return nil
	}
	insns := unsafe.Slice((*unix.SockFilter)(unsafe.Pointer(&f.Code[0])), len(f.Code)/int(unsafe.Sizeof(unix.SockFilter{})))
	return &seccomp.Program{Filter: slices.Clone(insns), Flags: f.Flags}
}

// prepare does what needs privilege but not yet the final identity. "/" is the
// container's root.
func (p *process) prepare() error {
	root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return proto.Fail("open", "/", err)
	}
	p.root = newRootDir(root)
	if err := p.changeDir(); err != nil {
		return err
	}
	if adj := p.spec.OOMScoreAdj; adj != nil {
		if err := p.writeProc("self/oom_score_adj", strconv.Itoa(*adj)); err != nil {
			return proto.Fail("oom_score_adj", "", err)
		}
	}
	if err := p.limits(); err != nil {
		return err
	}
	if err := p.streams(); err != nil {
		return err
	}
	umask := 0o022
	if p.spec.User.Umask != nil {
		umask = int(*p.spec.User.Umask)
	}
	unix.Umask(umask)
	return nil
}

// changeDir enters the working directory. A magic link would lead to whatever a
// leaked descriptor stands for (CVE-2024-21626): they are not followed, and
// where we stand is asked of the kernel afterwards.
func (p *process) changeDir() error {
	cwd := p.spec.Cwd
	fd, err := p.root.open(cwd, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return proto.Fail("working directory", cwd, err)
	}
	defer unix.Close(fd)
	if err := unix.Fchdir(fd); err != nil {
		return proto.Fail("working directory", cwd, err)
	}
	// The C library would pass on what the kernel says about a directory that
	// "/" does not reach; x/sys leaves the text as it is.
	at, err := unix.Getwd()
	if err != nil {
		return proto.Fail("working directory", cwd, err)
	}
	if !strings.HasPrefix(at, "/") {
		return &proto.Failure{Stage: "working directory", Path: cwd, Errno: unix.ENOENT, Text: "lies outside the container"}
	}
	return nil
}

func (p *process) writeProc(name, value string) error {
	fd, err := unix.Openat(p.proc, name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(value))
	return err
}

var rlimits = map[string]int{
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU, "RLIMIT_DATA": unix.RLIMIT_DATA,
	"RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS, "RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK,
	"RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE, "RLIMIT_NOFILE": unix.RLIMIT_NOFILE,
	"RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_RSS": unix.RLIMIT_RSS, "RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO,
	"RLIMIT_RTTIME": unix.RLIMIT_RTTIME, "RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_STACK": unix.RLIMIT_STACK,
}

// limits sets resource limits. Setting RLIMIT_NOFILE through x/sys also tells
// the Go runtime not to put the inherited value back at execve.
func (p *process) limits() error {
	for _, l := range p.spec.Rlimits {
		which, ok := rlimits[l.Type]
		if !ok {
			return &proto.Failure{Stage: "rlimit", Path: l.Type, Errno: unix.EINVAL, Text: "unknown"}
		}
		if err := unix.Setrlimit(which, &unix.Rlimit{Cur: l.Soft, Max: l.Hard}); err != nil {
			f := &proto.Failure{Stage: "rlimit", Path: fmt.Sprintf("%s %d:%d", l.Type, l.Soft, l.Hard)}
			var have unix.Rlimit
			if errors.As(err, &f.Errno) && f.Errno == unix.EPERM && unix.Getrlimit(which, &have) == nil {
				f.Text = fmt.Sprintf("more than the %d that are ours to give", have.Max)
			}
			return f
		}
	}
	return nil
}

// streams makes the standard streams usable for the process's user: a program
// that opens /dev/stdout anew opens the pipe itself, and needs to own it.
func (p *process) streams() error {
	if err := p.pty.standardStreams(); err != nil {
		return proto.Fail("terminal", "", err)
	}
	for fd := range 3 {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			if err == unix.EBADF {
				continue
			}
			return proto.Fail("standard streams", "", err)
		}
		mine := p.pty.terminal != 0 || st.Mode&unix.S_IFMT == unix.S_IFIFO
		if !mine || st.Uid == p.user.UID {
			continue
		}
		// A pipe of somebody whom our user namespace does not know stays his.
		if err := unix.Fchown(fd, int(p.user.UID), -1); err != nil && err != unix.EPERM && err != unix.EINVAL {
			return proto.Fail("standard streams", "", err)
		}
	}
	return nil
}
