package guest

import (
	"errors"
	"path"
	"runtime"
	"strings"
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
	return p.failedExec(p.program, syscall.Exec(p.program, p.spec.Args, p.env()))
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
