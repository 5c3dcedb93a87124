package guest

import (
	"errors"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"peel/pkg/run/internal/proto"
)

// exec replaces this process by the program. hooks, unless nil, runs what is to run
// before it, and as it: with its user and its filter. ready is called last before
// nothing of ours runs any more.
func (p *process) exec(hooks, ready func() error) error {
	if err := p.ready(); err != nil {
		return err
	}
	if p.self != 0 {
		if err := p.foresee(); err != nil {
			return err
		}
	}
	p.explain = newExplainer(p)
	if hooks != nil {
		// Before the limit on processes, which ready has set: to start a program
		// takes threads. The filter has to allow the report, then.
		if err := p.confine(); err != nil {
			return err
		}
		if err := hooks(); err != nil {
			return err
		}
	}
	if err := ready(); err != nil {
		return proto.Fail("report", "", err)
	}
	if hooks == nil {
		if err := p.confine(); err != nil {
			return err
		}
	}
	if p.self != 0 {
		return p.execInit()
	}
	return p.failedExec(p.program, syscall.Exec(p.program, p.spec.Args, p.env()))
}

// execInit replaces this process by the container's init, which starts the program.
// It takes an absolute path: Go has no way to execute a descriptor that also knows
// of its own threads.
func (p *process) execInit() error {
	self := "/proc/self/fd/" + strconv.Itoa(p.self)
	err := syscall.Exec(self, append([]string{proto.InitName, p.program}, p.spec.Args...), p.env())
	f := &proto.Failure{Stage: "init"}
	switch _, missing := os.Lstat(self); {
	case !errors.As(err, &f.Errno) || f.Errno != unix.ENOENT:
	case missing != nil:
		f.Text = "the container has no /proc to start it by"
	default:
		f.Text = "this peel needs a loader that the container lacks: build it with CGO_ENABLED=0"
	}
	return f
}

// foresee refuses a program that the init could not execute, while there is
// somebody to tell why. What is left to it are formats that the kernel might have
// an interpreter for.
func (p *process) foresee() error {
	if err := unix.Faccessat(unix.AT_FDCWD, p.program, unix.X_OK, unix.AT_EACCESS); err != nil {
		return p.failedExec(p.program, err)
	}
	var st unix.Stat_t
	if err := unix.Stat(p.program, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		return p.failedExec(p.program, unix.EACCES)
	}
	if helper := p.helper(); helper != "" {
		if fd, err := p.root.open(helper, unix.O_PATH); absent(err) {
			return p.failedExec(p.program, unix.ENOENT)
		} else if err == nil {
			unix.Close(fd)
		}
	}
	return nil
}

// ready takes the identity of the process and finds its program with it.
func (p *process) ready() (err error) {
	if err := p.become(); err != nil {
		return err
	}
	if p.program, err = p.lookPath(); err != nil {
		return err
	}
	if err := p.label(); err != nil {
		return err
	}
	// All that is ours was opened close-on-exec; what the caller's caller left
	// open was not.
	return proto.Fail("close descriptors", "", unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC))
}

// failedExec explains why the kernel would not execute the program.
func (p *process) failedExec(program string, err error) error {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return proto.Fail("exec", program, err)
	}
	f := &proto.Failure{Stage: "exec", Path: program, Errno: errno}
	if p.explain != nil {
		// The runtime may want threads to wake another one.
		_ = proto.Ask(proto.ReportFD, "free")
		f.Text = p.explain(program, errno)
	} else {
		f.Text = p.why(program, errno)
	}
	return f
}

// spareThreads leaves the Go runtime with threads for all that it may want to do
// at once, before the limit on processes keeps it from starting any: it would end
// this process with a word about itself, and not about the program.
func spareThreads() {
	const enough = 4
	var there, gone sync.WaitGroup
	leave := make(chan struct{})
	there.Add(enough)
	for range enough {
		gone.Go(func() {
			runtime.LockOSThread() // one each
			defer runtime.UnlockOSThread()
			there.Done()
			<-leave
		})
	}
	there.Wait()
	close(leave)
	gone.Wait()
}

// newExplainer prepares another thread to explain: this one may soon be filtered
// to the point where it cannot open a file, will have given up the right to read
// it, and may not be allowed to start a thread.
func newExplainer(p *process) func(program string, errno syscall.Errno) string {
	type question struct {
		program string
		errno   syscall.Errno
	}
	asked, said := make(chan question), make(chan string)
	go func() {
		runtime.LockOSThread()
		said <- "" // the thread is there
		q := <-asked
		said <- p.why(q.program, q.errno)
	}()
	<-said
	return func(program string, errno syscall.Errno) string {
		asked <- question{program, errno}
		return <-said
	}
}

// env is the environment of the process, with a home where none was given.
func (p *process) env() []string {
	for _, e := range p.spec.Env {
		if strings.HasPrefix(e, "HOME=") && len(e) > len("HOME=") {
			return p.spec.Env
		}
	}
	home := p.user.Home
	if home == "" {
		home = "/"
	}
	return append(p.spec.Env, "HOME="+home)
}

// lookPath finds the program as a shell would, with the rights of the process.
func (p *process) lookPath() (string, error) {
	name := p.spec.Args[0]
	if strings.Contains(name, "/") {
		return name, nil
	}
	var search string
	for _, e := range p.spec.Env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			search = v
		}
	}
	failure := &proto.Failure{Stage: "exec", Path: name, Errno: unix.ENOENT, Text: "executable file not found in $PATH"}
	for dir := range strings.SplitSeq(search, ":") {
		if !strings.HasPrefix(dir, "/") || name == "" {
			continue // the working directory is not searched
		}
		file := path.Join(dir, name)
		var st unix.Stat_t
		if unix.Stat(file, &st) != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR {
			continue
		}
		if unix.Faccessat(unix.AT_FDCWD, file, unix.X_OK, unix.AT_EACCESS) == nil {
			return file, nil
		}
		failure = &proto.Failure{Stage: "exec", Path: file, Errno: unix.EACCES, Text: "not executable by this user"}
	}
	return "", failure
}

// label sets the LSM labels that execve will take on. What was asked for and
// cannot be had is a failure. The file is our own procfs's: a label written to
// a look-alike would leave the container unconfined (CVE-2025-52881).
func (p *process) label() error {
	if profile := p.spec.ApparmorProfile; profile != "" {
		err := p.writeProc("thread-self/attr/apparmor/exec", "exec "+profile)
		if err == unix.ENOENT { // before Linux 5.8
			err = p.writeProc("thread-self/attr/exec", "exec "+profile)
		}
		if err == unix.ENOENT {
			return &proto.Failure{Stage: "AppArmor profile", Path: profile, Errno: unix.ENOENT, Text: "the kernel has no profile of this name loaded"}
		}
		if err != nil {
			return proto.Fail("AppArmor profile", profile, err)
		}
	}
	if label := p.spec.SelinuxLabel; label != "" {
		if err := p.writeProc("thread-self/attr/exec", label); err != nil {
			return proto.Fail("SELinux label", label, err)
		}
	}
	return nil
}
