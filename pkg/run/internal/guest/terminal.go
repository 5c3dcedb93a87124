package guest

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"peel/pkg/run/internal/mountfd"
	"peel/pkg/run/internal/proto"
)

// pty is a terminal for the process: none when terminal is 0.
type pty struct {
	terminal int
	control  int // the controlling end, of a joiner alone
}

// openPty makes a terminal in the devpts of root. The end the process gets is
// asked of the controlling end itself: its name in /dev/pts could be swapped
// before it is opened (CVE-2025-52565).
func openPty(root rootDir, size *specs.Box) (control, terminal int, err error) {
	control, err = root.openStrict("/dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK)
	if err != nil {
		return -1, -1, err
	}
	terminal = -1
	defer func() {
		if err != nil {
			unix.Close(control)
			if terminal >= 0 {
				unix.Close(terminal)
			}
		}
	}()
	var fs unix.Statfs_t
	var st unix.Stat_t
	if err := unix.Fstatfs(control, &fs); err != nil {
		return -1, -1, err
	}
	if err := unix.Fstat(control, &st); err != nil {
		return -1, -1, err
	}
	if fs.Type != unix.DEVPTS_SUPER_MAGIC || st.Rdev != unix.Mkdev(5, 2) {
		return -1, -1, &proto.Failure{Stage: "terminal", Path: "/dev/pts/ptmx", Errno: unix.ENODEV, Text: "not a devpts"}
	}
	if err := unix.IoctlSetPointerInt(control, unix.TIOCSPTLCK, 0); err != nil {
		return -1, -1, err
	}
	// Blocking: it becomes the standard input of the program.
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(control), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return -1, -1, errno
	}
	terminal = int(n)
	if size != nil {
		ws := unix.Winsize{Row: uint16(size.Height), Col: uint16(size.Width)}
		if err := unix.IoctlSetWinsize(control, unix.TIOCSWINSZ, &ws); err != nil {
			return -1, -1, err
		}
	}
	return control, terminal, nil
}

// terminal makes the process's terminal, shows it as /dev/console and hands the
// controlling end to the parent.
func (g *guest) terminal() error {
	if !g.Spec.Process.Terminal {
		return nil
	}
	control, terminal, err := openPty(g.root, g.Spec.Process.ConsoleSize)
	if err != nil {
		return proto.Fail("terminal", "/dev/pts/ptmx", err)
	}
	defer unix.Close(control)
	g.pty.terminal = terminal
	target, err := g.root.makeFile("/dev/console")
	if err != nil {
		return proto.Fail("terminal", "/dev/console", err)
	}
	defer unix.Close(target)
	tree, err := mountfd.CloneTree(terminal, "", false)
	if err != nil {
		return proto.Fail("terminal", "/dev/console", err)
	}
	defer unix.Close(tree)
	if err := mountfd.Attach(tree, target); err != nil {
		return proto.Fail("terminal", "/dev/console", err)
	}
	return proto.Fail("terminal", "", proto.Send(proto.ReportFD, proto.Report{Stage: "pty"}, control))
}

// standardStreams makes the terminal the standard streams of this process.
func (p pty) standardStreams() error {
	if p.terminal == 0 {
		return nil
	}
	for fd := range 3 {
		if err := unix.Dup3(p.terminal, fd, 0); err != nil {
			return err
		}
	}
	return nil
}

// takeControl makes the terminal the controlling one of the session that this
// process leads.
func (p pty) takeControl() error {
	if p.terminal == 0 {
		return nil
	}
	return unix.IoctlSetInt(0, unix.TIOCSCTTY, 0)
}
